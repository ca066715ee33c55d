"""Checkpoints are whole or absent, finite, and what was saved; a run's settings and the command line's go together."""

from __future__ import annotations

import copy
import errno
import re
import shutil
import subprocess
import sys
import threading
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from nerfstudio.configs.base_config import LoggingConfig, MachineConfig, ViewerConfig
from nerfstudio.engine.trainer import Trainer
from nerfstudio.utils.eval_utils import eval_setup

from iga_nerfstudio.arguments import option_values
from iga_nerfstudio.divergence import TrainingDiverged
from iga_nerfstudio.nerf import trainer as trainer_module
from iga_nerfstudio.nerf import trainer_config
from iga_nerfstudio.nerf.method_configs import iga_nerf, iga_nerf_tiny
from iga_nerfstudio.nerf.trainer import IGATrainer
from iga_nerfstudio.nerf.trainer_config import IGATrainerConfig
from iga_nerfstudio.run_folders import release_run_folder


@pytest.fixture
def trainer(tmp_path: Path) -> IGATrainer:
    trainer = IGATrainer.__new__(IGATrainer)
    trainer.base_dir, trainer.checkpoint_dir = tmp_path, tmp_path / "nerfstudio_models"
    trainer.pipeline = torch.nn.Linear(2, 2)
    trainer.pipeline.datamanager = None
    optimizer = torch.optim.SGD(trainer.pipeline.parameters(), lr=0.5)
    trainer.optimizers = SimpleNamespace(optimizers={"fields": optimizer}, schedulers={})
    trainer._ending = False
    trainer.grad_scaler = SimpleNamespace(state_dict=dict)
    trainer.config = SimpleNamespace(
        save_only_latest_checkpoint=True, load_dir=None, load_step=None, load_checkpoint=None
    )
    return trainer


def names(trainer: IGATrainer) -> list[str]:
    return sorted(path.name for path in trainer.checkpoint_dir.iterdir())


def test_only_the_latest_is_kept(trainer):
    for step in (3, 7):
        trainer.save_checkpoint(step)
    assert names(trainer) == ["step-000000007.ckpt"]
    assert torch.load(trainer.checkpoint_dir / "step-000000007.ckpt", weights_only=True)["step"] == 7
    trainer.config.save_only_latest_checkpoint = False
    trainer.save_checkpoint(9)
    assert names(trainer) == ["step-000000007.ckpt", "step-000000009.ckpt"]


def test_a_run_that_dies_while_saving_keeps_the_checkpoint_before(trainer, monkeypatch):
    trainer.save_checkpoint(3)
    write = Path.write_bytes

    def die(path, content):
        write(path, content[:10])
        raise KeyboardInterrupt

    with monkeypatch.context() as patches:
        patches.setattr(Path, "write_bytes", die)
        with pytest.raises(KeyboardInterrupt):
            trainer.save_checkpoint(7)
    assert names(trainer) == ["step-000000003.ckpt"]
    trainer.save_checkpoint(8)
    assert names(trainer) == ["step-000000008.ckpt"]
    assert not (trainer.base_dir / ".checkpoint-being-written").exists()


def test_settings_that_are_cleared_away_meanwhile_are_written_with_all_steps(trainer, monkeypatch):
    config = copy.deepcopy(iga_nerf_tiny.config)
    config.output_dir, config.experiment_name, config.timestamp = trainer.base_dir, "scene", "first"
    trainer.config, trainer.base_dir = config, config.get_base_dir()
    # Taken up after 5 steps, of which nerfstudio's loop took 2 more.
    trainer._start_step, trainer.last_step, config.max_num_iterations = 5, 6, 2
    trainer._interrupted = threading.Event()
    monkeypatch.setattr(Trainer, "_after_train", lambda self: None)
    trainer._after_train()
    saved = yaml.load((trainer.base_dir / "config.yml").read_text(), yaml.Loader)
    assert (saved.max_num_iterations, config.max_num_iterations) == (7, 2)


@pytest.mark.parametrize("step", [None, 12])
def test_what_is_not_there_is_named(trainer, step):
    trainer.config.load_dir, trainer.config.load_step = trainer.base_dir, step
    with pytest.raises(ValueError, match=r"holds no checkpoint|There is no checkpoint .*step-000000012.ckpt"):
        trainer._load_checkpoint()


def test_other_processes_leave_saving_and_its_staging_folder_to_the_main_one(trainer, monkeypatch):
    monkeypatch.setattr(trainer_module.comms, "is_main_process", lambda: False)
    staged = trainer.base_dir / ".checkpoint-being-written" / "step-000000003.ckpt"
    staged.parent.mkdir()
    staged.write_bytes(b"half of it")
    trainer.save_checkpoint(3)
    assert staged.read_bytes() == b"half of it"
    assert not trainer.checkpoint_dir.exists()


@pytest.mark.parametrize("ending", [False, True])
def test_a_full_disk_costs_no_checkpoint(trainer, monkeypatch, caplog, ending):
    trainer.save_checkpoint(3)
    before = (trainer.checkpoint_dir / "step-000000003.ckpt").read_bytes()

    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    trainer._ending = ending
    message = r"step 7 could not be written \(No space left on device\).*step-000000003\.ckpt is intact"
    if ending:
        with pytest.raises(ValueError, match=message):
            trainer.save_checkpoint(7)
    else:
        trainer.save_checkpoint(7)
        assert "Training goes on" in caplog.text
    assert names(trainer) == ["step-000000003.ckpt"]
    assert (trainer.checkpoint_dir / "step-000000003.ckpt").read_bytes() == before


@pytest.mark.parametrize("steps", [0, 4])
def test_steps_are_saved_when_who_read_the_output_has_left(trainer, monkeypatch, steps):
    vars(trainer.config).update(max_num_iterations=9, write_config=lambda: None)
    trainer._start_step, trainer._random_state = 0, None

    def leave(self):
        self.last_step += steps
        raise BrokenPipeError

    monkeypatch.setattr(Trainer, "train", leave)
    with pytest.raises(BrokenPipeError):
        trainer.train()
    assert trainer.checkpoint_dir.exists() == (steps > 0)
    assert not steps or names(trainer) == ["step-000000003.ckpt"]
    assert trainer.config.max_num_iterations == 9


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_replace_nothing(trainer, value):
    trainer.save_checkpoint(3)
    with torch.no_grad():
        trainer.pipeline.bias[1] = value
    with pytest.raises(TrainingDiverged, match=r"bias is no longer finite at step 7 \(learning rate 5.0e-01 of f"):
        trainer.save_checkpoint(7)
    assert names(trainer) == ["step-000000003.ckpt"]


def test_a_flipped_bit_is_noticed_and_the_checkpoint_before_named(trainer):
    trainer.config.save_only_latest_checkpoint = False
    trainer.save_checkpoint(3)
    weights = trainer.pipeline.weight.detach().numpy().tobytes()
    trainer.save_checkpoint(7)
    path = trainer.checkpoint_dir / "step-000000007.ckpt"
    content = bytearray(path.read_bytes())
    content[content.index(weights) + 1] ^= 4
    path.write_bytes(content)
    trainer.config.load_dir = trainer.checkpoint_dir
    with pytest.raises(ValueError, match=r"step-000000007.ckpt cannot be read.*choose one with --load-step: 3"):
        trainer._load_checkpoint()


@pytest.mark.parametrize("rate", [float("inf"), float("nan"), 0.0, -1.0])
def test_learning_rates_are_positive_and_finite(rate):
    config = copy.deepcopy(iga_nerf_tiny.config)
    config.optimizers["fields"]["optimizer"].lr = rate
    with pytest.raises(ValueError, match=r"--optimizers\.fields\.optimizer\.lr must be a positive, finite"):
        config.setup(local_rank=0, world_size=1).setup_optimizers()


@pytest.mark.parametrize(
    ("steps", "message"),
    [({"field": 2}, r"names field, but the optimisers are: fields"), ({"fields": 0}, r"fields must be at least 1")],
)
def test_gradients_are_accumulated_for_what_there_is(steps, message):
    config = copy.deepcopy(iga_nerf_tiny.config)
    config.gradient_accumulation_steps = steps
    with pytest.raises(ValueError, match=rf"^--gradient-accumulation-steps {message}"):
        config.setup(local_rank=0, world_size=1).setup_optimizers()


def test_a_step_without_a_folder_is_refused(trainer):
    trainer.config.load_step = 5
    with pytest.raises(ValueError, match="--load-step 5 is of no use alone"):
        trainer._load_checkpoint()


@pytest.mark.parametrize(
    ("machine", "found", "message"),
    [
        (MachineConfig(num_devices=0), 1, "num-devices must be at least 1, but it is 0"),
        (MachineConfig(num_machines=0), 1, "num-machines must be at least 1"),
        (MachineConfig(num_devices=2), 0, r"num-devices is 2, but torch finds 0 CUDA GPUs here.* Make it 1"),
        (MachineConfig(num_devices=4), 2, r"num-devices is 4, but torch finds 2 CUDA GPUs here.* Make it 2"),
        (MachineConfig(num_machines=2), 0, "num-devices is 1, but torch finds 0 CUDA GPUs here"),
        (MachineConfig(num_devices=2), 2, None),
        (MachineConfig(num_devices=1), 0, None),
    ],
)
def test_processes_have_devices(machine, found, message, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: found)
    with nullcontext() if message is None else pytest.raises(ValueError, match=message):
        trainer_config.require_devices(machine)


def test_a_device_that_is_not_there_is_refused(monkeypatch):
    config = copy.deepcopy(iga_nerf_tiny.config)
    config.machine.device_type = "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"device-type is cuda, but torch finds no such device here. Make it cpu"):
        config.setup(local_rank=0, world_size=1)


class TestFolders:
    @pytest.fixture
    def config(self, tmp_path: Path) -> IGATrainerConfig:
        config = copy.deepcopy(iga_nerf_tiny.config)
        config.output_dir, config.experiment_name = tmp_path, "scene"
        return config

    def test_runs_of_one_second_have_folders_of_their_own(self, config, monkeypatch):
        monkeypatch.setattr("time.strftime", lambda _format: "noon")
        found = []
        for _ in range(3):
            config.timestamp = "{timestamp}"
            config.set_timestamp()
            found.append(config.timestamp)
        assert found == ["noon", "noon_2", "noon_3"]

    def test_a_name_that_is_taken_is_refused_unless_the_run_is_resumed(self, config):
        config.timestamp = "mine"
        config.set_timestamp()
        config.get_checkpoint_dir().mkdir()
        with pytest.raises(ValueError, match=r"scene/iga-nerf-tiny/mine holds a run already.*--load-dir.*--timestamp"):
            config.set_timestamp()
        config.load_dir = config.get_checkpoint_dir().parent / "." / "nerfstudio_models"
        config.set_timestamp()
        assert config.timestamp == "mine"

    def test_what_came_after_the_step_that_a_run_is_taken_up_at_is_not_left_to_pass_for_it(self, config):
        config.timestamp = "mine"
        config.set_timestamp()
        models = config.load_dir = config.get_checkpoint_dir()
        models.mkdir()
        for step in (5, 10, 11):
            (models / f"step-{step:09d}.ckpt").touch()
        for config.load_step in (None, 11):
            config.set_timestamp()
        config.load_step = 5
        with pytest.raises(ValueError, match=r"--load-step 5: .* step-000000010.ckpt, step-000000011.ckpt, which"):
            config.set_timestamp()
        config.timestamp = "another"
        config.set_timestamp()

    def test_settings_that_cannot_be_written_are_named(self, config, monkeypatch):
        def full(*_args: object, **_settings: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(trainer_config, "write_text", full)
        with pytest.raises(ValueError, match=r"config.yml cannot be written: No space left on device. Make room"):
            config.write_config()

    def test_a_folder_that_is_written_to_is_locked(self, config):
        config.timestamp = "mine"
        config.set_timestamp()
        script = (
            "import sys; from pathlib import Path; from iga_nerfstudio.run_folders import lock_run_folder; "
            "lock_run_folder(Path(sys.argv[1]))"
        )
        command = [sys.executable, "-c", script, str(config.get_base_dir())]
        result = subprocess.run(command, capture_output=True, text=True)
        assert result.returncode != 0
        assert "Another process is writing to" in result.stderr
        (config.get_base_dir() / "config.yml").touch()
        release_run_folder(config.get_base_dir())
        assert subprocess.run(command).returncode == 0

    def test_a_start_that_fails_leaves_nothing(self, config):
        (config.output_dir / "others").mkdir()
        config.set_timestamp()
        config.save_config()
        assert [path.name for path in config.get_base_dir().iterdir()] == [".lock"]
        release_run_folder(config.get_base_dir())  # as the end of the process does
        assert [path.name for path in config.output_dir.iterdir()] == ["others"]

    @pytest.mark.parametrize(
        ("option", "value", "message"),
        [
            ("output_dir", Path(__file__), r"test_trainer\.py.* cannot be written to.*Choose another --output-dir"),
            ("experiment_name", "../up", r"--experiment-name must name a folder within .* '\.\./up'"),
            ("timestamp", "/up", r"--timestamp must name a folder within"),
            ("max_num_iterations", 0, r"--max-num-iterations must be at least 1, but it is 0"),
            ("logging", LoggingConfig(steps_per_log=0), r"--logging\.steps-per-log must be at least 1, but it is 0"),
            ("machine", MachineConfig(seed=-1), r"--machine\.seed must lie between 0 and 4294967295, but it is -1"),
        ],
    )
    def test_what_no_run_can_begin_with_is_refused(self, config, option, value, message):
        output = config.output_dir
        setattr(config, option, value)
        with pytest.raises(ValueError, match=message):
            config.set_timestamp()
        assert not list(output.iterdir())

    @pytest.mark.parametrize(
        ("data", "name"), [(".", "here"), ("..", "scenes"), ("../lego", "lego"), ("a.json", "here")]
    )
    def test_data_around_the_working_directory_name_their_runs(self, config, tmp_path, monkeypatch, data, name):
        here = tmp_path / "scenes" / "here"
        here.mkdir(parents=True)
        (here / "a.json").touch()
        monkeypatch.chdir(here)
        config.experiment_name, config.pipeline.datamanager.data = None, Path(data)
        assert config.get_base_dir() == tmp_path / name / "iga-nerf-tiny" / "{timestamp}"

    def test_data_of_the_parser_alone_name_their_runs(self, config, tmp_path):
        config.experiment_name, config.pipeline.datamanager.dataparser.data = None, tmp_path / "lego"
        assert config.get_base_dir() == tmp_path / "lego" / "iga-nerf-tiny" / "{timestamp}"

    def test_a_run_does_not_become_that_of_other_data(self, config, tmp_path):
        own, other = tmp_path / "own", tmp_path / "other"
        own.mkdir(), other.mkdir()
        config.timestamp, config.pipeline.datamanager.data = "mine", own
        config.set_timestamp()
        config.write_config()
        config.get_checkpoint_dir().mkdir()
        config.load_dir = config.get_checkpoint_dir()
        config.pipeline.datamanager.data = other
        folder = config.get_base_dir()
        message = f"The run in {folder} is of {own}, not of {other}.*--load-config {folder}/config.yml --data {other}"
        with pytest.raises(ValueError, match=message):
            config.set_timestamp()
        # Data may move.
        own.rename(tmp_path / "moved")
        config.set_timestamp()

    def test_what_a_run_is_does_not_depend_on_where_it_was_taken_up(self, config):
        config.timestamp, config.load_dir, config.load_step = "mine", Path("somewhere"), 5
        config.write_config()
        saved = yaml.load((config.get_base_dir() / "config.yml").read_text(), yaml.Loader)
        assert (saved.load_dir, saved.load_step) == (None, None)
        assert config.load_step == 5


class TestLoadConfig:
    @pytest.fixture
    def saved(self, tmp_path: Path) -> Path:
        config = copy.deepcopy(iga_nerf_tiny.config)
        config.output_dir, config.experiment_name, config.timestamp = tmp_path / "out", "scene", "first"
        config.max_num_iterations, config.pipeline.model.hidden_dim = 77, 24
        config.pipeline.datamanager.dataparser.downscale_factor = 4
        config.pipeline.datamanager.data = tmp_path / "scene"
        config.write_config()
        config.get_checkpoint_dir().mkdir()
        return config.get_base_dir() / "config.yml"

    def load(self, monkeypatch, *words: object) -> IGATrainerConfig:
        monkeypatch.setattr("sys.argv", ["ns-train", "iga-nerf-tiny", *map(str, words)])
        given = copy.deepcopy(iga_nerf_tiny.config)
        return replace(given, load_config=Path(option_values(sys.argv, "--load-config")[-1]))

    def test_options_beside_it_override_the_runs(self, saved, monkeypatch):
        # 3000 is the method's default, which the run's 77 must not win against.
        config = self.load(monkeypatch, "--load_config", saved, "--max-num-iterations", 3000, "--machine.seed=5")
        assert (config.max_num_iterations, config.machine.seed) == (3000, 5)
        assert config.pipeline.model.hidden_dim == 24
        assert config.pipeline.datamanager.dataparser.downscale_factor == 4
        assert config.timestamp == "{timestamp}"
        assert config.load_config is None

    def test_other_data_make_another_run_named_by_them(self, saved, monkeypatch):
        for option in ("--data", "--pipeline.datamanager.data"):
            config = self.load(monkeypatch, "--load-config", saved, option, "else/where")
            assert config.data == Path("else/where")
            config.pipeline.datamanager.data = config.data  # as ns-train does
            assert config.get_base_dir().relative_to(config.output_dir) == Path("where/iga-nerf-tiny/{timestamp}")
        config = self.load(monkeypatch, "--load-config", saved, "--data", "else/where", "--experiment-name", "mine")
        assert config.experiment_name == "mine"

    def test_a_command_that_reads_a_run_finds_it_where_it_is_now(self, saved, monkeypatch, tmp_path):
        copied = Path(shutil.copytree(saved.parent, tmp_path / "copied"))
        config = yaml.load(saved.read_text(), yaml.Loader)
        monkeypatch.setattr("sys.argv", ["/bin/ns-eval", f"--load-config={copied}/config.yml", "--output-path", "x"])
        assert config.get_checkpoint_dir() == copied / "nerfstudio_models"
        (copied / "nerfstudio_models").rmdir()  # the settings alone
        assert config.get_checkpoint_dir() == saved.parent / "nerfstudio_models"

    def test_a_method_may_be_typed_with_underscores(self, saved, monkeypatch):
        monkeypatch.setattr(
            "sys.argv", ["ns-train", "iga_nerf_tiny", "--load-config", str(saved), "--max-num-iterations=9"]
        )
        config = replace(copy.deepcopy(iga_nerf_tiny.config), load_config=saved)
        assert (config.max_num_iterations, config.pipeline.model.hidden_dim) == (9, 24)
        assert config.get_base_dir().name == "{timestamp}"

    def test_code_that_reads_a_run_finds_it_where_it_is_now(self, saved, monkeypatch, tmp_path):
        moved = Path(shutil.copytree(saved.parent, tmp_path / "moved"))
        monkeypatch.setattr("sys.argv", ["my_script.py"])
        for folder in (moved, saved.parent):
            (folder / "nerfstudio_models" / "step-000000007.ckpt").touch()
            assert self.read(folder / "config.yml").load_dir == folder / "nerfstudio_models"

    @staticmethod
    def read(path: Path, step: int | None = None) -> IGATrainerConfig:
        """The settings that nerfstudio builds a pipeline of, for code that reads a run."""
        seen = []

        def without_pipeline(config):
            seen.append(config)
            config.pipeline, config.load_step = SimpleNamespace(datamanager=None), step
            return config

        with pytest.raises(AttributeError, match="setup"):
            eval_setup(path, update_config_callback=without_pipeline)
        return seen[-1]

    def test_of_all_that_is_beside_checkpoints_the_latest_of_them_is_read(self, saved):
        models = saved.parent / "nerfstudio_models"
        (models / ".DS_Store").touch()
        with pytest.raises(ValueError, match=r"nerfstudio_models holds no checkpoint"):
            self.read(saved)
        for name in ("step-000000007.ckpt", "step-000000012.ckpt", "step-000000013 (copy).ckpt", "best.ckpt", "notes"):
            (models / name).touch()
        assert self.read(saved).load_step == 12
        assert self.read(saved, step=7).load_step == 7
        with pytest.raises(ValueError, match=r"no checkpoint of step 9, load_step in config.yml. There are: 7, 12"):
            self.read(saved, step=9)

    def test_a_step_for_commands_that_read_a_run_is_not_that_of_training(self, saved, monkeypatch):
        saved.write_text(re.sub(r"^load_step: null$", "load_step: 7", saved.read_text(), flags=re.MULTILINE))
        assert yaml.load(saved.read_text(), yaml.Loader).load_step == 7
        assert self.load(monkeypatch, "--load-config", saved).load_step is None
        assert self.load(monkeypatch, "--load-config", saved, "--load-step", 5).load_step == 5

    def test_a_setting_that_came_after_the_run_is_what_it_was_then(self, saved, monkeypatch):
        text = saved.read_text()
        floor = re.search(r"^ +floor: 0.03\n", text, re.MULTILINE)[0]
        assert self.load(monkeypatch, "--load-config", saved).pipeline.model.adjustment.floor == 0.03
        saved.write_text(text.replace(floor, ""))
        assert self.load(monkeypatch, "--load-config", saved).pipeline.model.adjustment.floor == 0

    def test_a_parsers_options_beside_it_override_the_runs(self, saved, monkeypatch):
        config = self.load(monkeypatch, f"--load-config={saved}", "iga-blender", "--test-skip", 3)
        parser = config.pipeline.datamanager.dataparser
        assert (parser.downscale_factor, parser.test_skip) == (4, 3)

    def test_with_its_checkpoints_it_is_that_run_wherever_it_is_now(self, saved, monkeypatch, tmp_path):
        moved = tmp_path / "moved" / "scene" / "iga-nerf-tiny" / "renamed"
        moved.parent.mkdir(parents=True)
        saved.parent.rename(moved)
        models = moved / "nerfstudio_models"
        config = self.load(monkeypatch, "--load-config", moved / "config.yml", "--load-dir", models)
        assert config.get_checkpoint_dir() == models
        assert config.max_num_iterations == 77

    def test_settings_of_another_method_are_refused(self, saved, monkeypatch):
        monkeypatch.setattr("sys.argv", ["ns-train", "iga-nerf", "--load-config", str(saved)])
        with pytest.raises(ValueError, match="holds settings of iga-nerf-tiny, not of iga-nerf"):
            replace(copy.deepcopy(iga_nerf.config), load_config=saved)
        monkeypatch.setattr("sys.argv", ["ns-train", "iga-nerf", "--load-config", "nowhere.yml"])
        with pytest.raises(ValueError, match=r"nowhere\.yml cannot be read"):
            replace(copy.deepcopy(iga_nerf.config), load_config=Path("nowhere.yml"))


def test_ns_viewer_listens_on_this_machine_alone_unless_told(monkeypatch):
    config = copy.deepcopy(iga_nerf_tiny.config)
    monkeypatch.setattr("sys.argv", ["/bin/ns-viewer", "--load-config", "x"])
    config.viewer = ViewerConfig()
    assert config.viewer.websocket_host == "127.0.0.1"
    assert config.viewer.websocket_port >= 7007
    monkeypatch.setattr("sys.argv", ["/bin/ns-viewer", "--load-config", "x", "--viewer.websocket_host", "0.0.0.0"])
    config.viewer = ViewerConfig()
    assert config.viewer.websocket_host == "0.0.0.0"
