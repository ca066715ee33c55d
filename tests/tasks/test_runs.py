"""Folders of runs: everyone's own, one writer at a time, and nothing good replaced by what is broken."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from iga_nerfstudio.tasks import trainer as trainer_module
from iga_nerfstudio.tasks.config import ImageConfig, SDFConfig, SignalConfig
from iga_nerfstudio.tasks.config_files import read_preset
from iga_nerfstudio.tensor_files import checksum, load_tensors, save_tensors
from tests.tasks.test_cli import iga_image, the_run

QUICK = ["--max-num-iterations", "6", "--steps-per-eval", "3", "--network.hidden-dim", "16", "--adjustment.end", "5"]


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def finished(photo: Path, tmp_path: Path) -> Path:
    """The folder of a run of 6 steps."""
    words = ["--timestamp", "first", "--machine.seed", "7", "--optimizer.lr", "1e-3", "--vis", "none"]
    assert iga_image("--data", photo, "--output-dir", tmp_path / "out", *QUICK, *words) == 0
    return the_run(tmp_path / "out")


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_runs_of_the_same_second_have_folders_of_their_own(
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("iga_nerfstudio.run_folders.time.strftime", lambda _format: "noon")
    for _ in range(3):
        assert iga_image("--data", photo, "--output-dir", tmp_path / "out", *QUICK, "--vis", "none") == 0
    folders = sorted((tmp_path / "out/photo/iga-image").iterdir())
    assert [folder.name for folder in folders] == ["noon", "noon_2", "noon_3"]
    assert all((folder / "metrics.json").exists() for folder in folders)


def test_a_timestamp_that_is_taken_is_refused(
    finished: Path, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content(finished)
    words = ["--data", photo, "--output-dir", tmp_path / "out", "--timestamp", "first", *QUICK]
    assert iga_image(*words) == 2
    assert "holds a run already" in capsys.readouterr().out
    assert content(finished) == before


@pytest.mark.parametrize("option", ["--timestamp", "--experiment-name"])
def test_runs_stay_in_the_output_folder(
    photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    words = ["--data", photo, "--output-dir", tmp_path / "out", *QUICK]
    assert iga_image(*words, option, "../up") == 2
    assert f"{option} must name a folder within the output folder" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == [photo]


def test_a_folder_that_is_written_to_is_left_to_its_process(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = (
        "import sys, time; from pathlib import Path; from iga_nerfstudio.run_folders import lock_run_folder; "
        "lock_run_folder(Path(sys.argv[1])); print('locked', flush=True); time.sleep(60)"
    )
    before = content(finished)
    with subprocess.Popen([sys.executable, "-c", script, str(finished)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        assert iga_image("--load-dir", finished, "--max-num-iterations", 9) == 2
        other.kill()
    assert "Another process is writing to" in capsys.readouterr().out
    assert content(finished) == before
    # A process that was killed holds nothing.
    assert iga_image("--load-dir", finished, "--max-num-iterations", 9) == 0
    assert json.loads((finished / "metrics.json").read_text())["steps"] == 9


@pytest.mark.parametrize(
    "spelling", ["--load-dir {}", "--load_dir {}", "--load_dir={}", "--load-dir nowhere --load-dir {}"]
)
def test_a_run_goes_on_with_its_own_settings_however_it_is_asked(finished: Path, spelling: str) -> None:
    assert iga_image(*spelling.format(finished).split(), "--max-num-iterations", 4, "--max_num_iterations", 8) == 0
    config = read_preset(str(finished / "config.yml"), ImageConfig)
    assert (config.machine.seed, config.optimizer.lr, config.adjustment.end) == (7, 1e-3, 5)
    assert config.max_num_iterations == 8
    assert json.loads((finished / "metrics.json").read_text())["steps"] == 8


def test_a_run_does_not_become_that_of_other_data(
    finished: Path, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content(finished)
    other = tmp_path / "other.png"
    Image.new("RGB", Image.open(photo).size, (9, 99, 199)).save(other)
    assert iga_image("--load-dir", finished, "--data", other, "--max-num-iterations", 9) == 2
    assert f"--config {finished}/config.yml --data {other}" in capsys.readouterr().out
    assert iga_image("--load-dir", finished, "--max-num-iterations", 1) == 2
    assert "steps already" in capsys.readouterr().out
    assert content(finished) == before
    # The same picture elsewhere is no other one.
    moved = photo.rename(tmp_path / "moved.png")
    assert iga_image("--load-dir", finished, "--data", moved, "--max-num-iterations", 9) == 0


@pytest.mark.parametrize("words", ["--max-side 20", "--size 24 20", "--crop 0 0 30 30"])
def test_a_run_does_not_become_that_of_another_part_or_size(
    finished: Path, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content(finished)
    option = words.split()[0]
    assert iga_image("--load-dir", finished, *words.split(), "--max-num-iterations", 9) == 2
    assert f"iga-image --config {finished}/config.yml and {option}." in " ".join(capsys.readouterr().out.split())
    assert content(finished) == before


@pytest.mark.parametrize("config", [ImageConfig, SDFConfig, SignalConfig])
def test_what_a_run_keeps_are_settings(config: type[ImageConfig | SDFConfig | SignalConfig]) -> None:
    assert config.fitted
    assert set(config.fitted) <= {field.name for field in fields(config)}


@pytest.mark.parametrize("relative", [True, False])
def test_a_run_whose_data_are_not_there_says_whose_they_were(
    photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, relative: bool
) -> None:
    monkeypatch.chdir(photo.parent)
    data = photo.name if relative else photo
    assert iga_image("--data", data, "--output-dir", tmp_path / "out", *QUICK, "--vis", "none") == 0
    run = the_run(tmp_path / "out")
    if relative:
        monkeypatch.chdir(run)
    else:
        photo = photo.rename(tmp_path / "moved.png")
    before = content(run)
    assert iga_image("--load-dir", run, "--max-num-iterations", 9) == 2
    seen_from = f" seen from here, {run}" if relative else ""
    assert (
        f"The run in {run} is of {data}, which is not there{seen_from}. Name it by --data." in capsys.readouterr().out
    )
    assert content(run) == before
    Image.new("RGB", (48, 40), (9, 99, 199)).save(tmp_path / "other.png")
    assert iga_image("--load-dir", run, "--max-num-iterations", 9, "--data", tmp_path / "other.png") == 2
    assert "its data are of the same sizes, but these differ" in capsys.readouterr().out
    assert content(run) == before
    assert iga_image("--load-dir", run, "--max-num-iterations", 9, "--data", photo) == 0


def test_the_last_preset_counts(photo: Path, tmp_path: Path) -> None:
    for name, rate in (("a", 1e-2), ("b", 3e-2)):
        (tmp_path / f"{name}.yaml").write_text(f"optimizer: {{lr: {rate}}}")
    words = ["--config", tmp_path / "a.yaml", "--config", tmp_path / "b.yaml", "--data", photo, *QUICK]
    assert iga_image(*words, "--output-dir", tmp_path / "out") == 0
    assert read_preset(str(the_run(tmp_path / "out") / "config.yml"), ImageConfig).optimizer.lr == 3e-2


def test_a_run_that_diverges_when_it_is_continued_loses_nothing(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content(finished)
    # Six steps, of which none is logged: the weights are looked at before they are saved.
    words = ["--max-num-iterations", 12, "--optimizer.lr", 1e30, "--steps-per-log", 100, "--schedule.kind", "constant"]
    assert iga_image("--load-dir", finished, *words) == 2
    message = capsys.readouterr().out
    assert "is no longer finite at step 12 (learning rate 1.0e+30" in message
    after = content(finished)
    assert {name for name in before if after.get(name) != before[name]} <= {"models/best.pt"}
    weights = load_tensors(finished / "models" / "best.pt")["weights"]
    assert all(bool(value.isfinite().all()) for value in weights.values())
    # It goes on from there.
    assert iga_image("--load-dir", finished, "--max-num-iterations", 8) == 0


@pytest.mark.parametrize("option", ["--optimizer.lr", "--optimizer.adam-lr"])
@pytest.mark.parametrize("value", ["inf", "nan", "0", "-1"])
def test_learning_rates_that_are_none(
    photo: Path, tmp_path: Path, option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert iga_image("--data", photo, "--output-dir", tmp_path / "out", *QUICK, option, value) == 2
    assert "must be a positive, finite learning rate" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_deleted_meanwhile_gets_the_results(
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = trainer_module.Trainer.step

    def step_and_delete(self: trainer_module.Trainer) -> None:
        step(self)
        if self.record.steps == 4:
            # Moved away first: TensorBoard's thread may write into the folder while it is emptied.
            shutil.rmtree(the_run(tmp_path / "out").rename(tmp_path / "deleted"))

    monkeypatch.setattr(trainer_module.Trainer, "step", step_and_delete)
    assert iga_image("--data", photo, "--output-dir", tmp_path / "out", *QUICK) == 0
    names = set(content(the_run(tmp_path / "out")))
    assert names >= {
        "config.yml", "metrics.json", "reconstruction.png", "report.html", "models/last.pt", "models/best.pt",
        "checkpoints/step-000000006.ckpt",
    }  # fmt: skip


def test_a_flipped_bit_is_noticed_and_the_checkpoint_before_taken(
    photo: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    words = ["--steps-per-save", "2", "--save-only-latest-checkpoint", "False", "--vis", "none"]
    assert iga_image("--data", photo, "--output-dir", tmp_path / "out", *QUICK, *words) == 0
    run = the_run(tmp_path / "out")
    latest = run / "checkpoints" / "step-000000006.ckpt"
    whole = latest.read_bytes()
    damaged = bytearray(whole)
    weight = load_tensors(latest)["network"][_first_weight(latest)]
    place = damaged.index(weight.numpy().tobytes())
    damaged[place + 1] ^= 1
    latest.write_bytes(damaged)
    with pytest.raises(ValueError, match=r"step-000000006\.ckpt cannot be read.*check sum"):
        load_tensors(latest)
    assert iga_image("--load-dir", run) == 0
    assert "Trying the checkpoint before it" in caplog.text
    # It takes the steps that are missing anew.
    assert load_tensors(latest)["record"]["steps"] == 6


def _first_weight(path: Path) -> str:
    return max(load_tensors(path)["network"].items(), key=lambda item: item[1].numel())[0]


def test_the_sum_of_tensors_depends_on_every_bit_and_name(tmp_path: Path) -> None:
    state = {"a": torch.arange(6.0).reshape(2, 3).T, "b": torch.tensor(3), "c": torch.ones(2, dtype=torch.bfloat16)}
    save_tensors(tmp_path / "s.pt", state)
    assert checksum(load_tensors(tmp_path / "s.pt")) == checksum(state)
    assert checksum(dict(reversed(state.items()))) == checksum(state)
    assert checksum(state | {"a": state["a"].nextafter(torch.tensor(9.0))}) != checksum(state)
    assert checksum({("d" if name == "b" else name): value for name, value in state.items()}) != checksum(state)
