"""The settings of a training: new ones, and those of a run that is taken up again or read."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import tyro
import yaml
from nerfstudio.configs.base_config import LoggingConfig, MachineConfig, ViewerConfig
from nerfstudio.engine.trainer import TrainerConfig
from nerfstudio.utils.rich_utils import CONSOLE

from iga_nerfstudio.arguments import expand_homes, name_of_folder, option_values, whole_number, without_option
from iga_nerfstudio.devices import default_device
from iga_nerfstudio.files import write_text
from iga_nerfstudio.nerf.checkpoint_files import checkpoints_in, require_latest, step_to_read
from iga_nerfstudio.nerf.nerfstudio_fixes.training_lines import TrainingLinesConfig
from iga_nerfstudio.nerf.ports import LOOPBACK, port_of
from iga_nerfstudio.run_folders import claim_run_folder, lock_run_folder

_NO_TIME_YET = "{timestamp}"  # nerfstudio's


def _trainer() -> type:
    from iga_nerfstudio.nerf.trainer import IGATrainer  # which needs these settings

    return IGATrainer


@dataclass
class IGATrainerConfig(TrainerConfig):
    """nerfstudio's trainer configuration; ``--load-config`` with options beside it honours both."""

    _target: type = field(default_factory=_trainer)
    """Target class to instantiate."""
    machine: MachineConfig = field(default_factory=lambda: MachineConfig(device_type=default_device()))
    """Machine configuration; a CUDA GPU is used where there is one."""
    logging: LoggingConfig = field(default_factory=lambda: LoggingConfig(local_writer=TrainingLinesConfig(enable=True)))
    """Logging configuration."""
    # The loopback address: a viewer is nobody else's business unless its owner says so.
    viewer: ViewerConfig = field(default_factory=lambda: ViewerConfig(websocket_host=LOOPBACK))
    """Viewer configuration."""

    def __post_init__(self) -> None:
        expand_homes(self)
        if self.load_config is not None and _is_trained_by_this_command(self.method_name):
            vars(self).update(vars(_with_options(self.load_config, self.method_name, sys.argv[2:])))

    def __setattr__(self, name: str, value: Any) -> None:
        # ns-viewer 1.1.5 puts settings of its own in place of the run's, open to the network.
        if name == "viewer" and name in vars(self) and Path(sys.argv[0]).name == "ns-viewer":
            host = value.websocket_host if option_values(sys.argv, "--viewer.websocket-host") else LOOPBACK
            value = replace(value, websocket_host=host, websocket_port=port_of(value, host))
        super().__setattr__(name, value)

    def set_experiment_name(self) -> None:
        """As nerfstudio's; data that are the working directory, around it, or given to the parser have a name too."""
        data = _data_of(self)
        if self.experiment_name is None and data is not None:
            self.experiment_name = _name_of(data)
        super().set_experiment_name()

    def get_base_dir(self) -> Path:
        """As nerfstudio's; to what reads a run, the folder that it is in now: its settings are of then."""
        if not _is_trained_by_this_command(self.method_name):
            for path in [*option_values(sys.argv, "--load-config"), *_read_by_eval_setup()][-1:]:
                if (Path(path).parent / self.relative_model_dir).is_dir():
                    return Path(path).parent
        return super().get_base_dir()

    def get_checkpoint_dir(self) -> Path:
        """As nerfstudio's; what reads a run is told the latest checkpoint too, where other files are in the folder.

        nerfstudio 1.1.5 takes all files there for checkpoints. Where there are no others it finds the latest itself,
        just before it loads it: a run that is still being trained replaces them.

        Raises:
            ValueError: If a run is read that has none, or not the one that its settings name.
        """
        folder = super().get_checkpoint_dir()
        if _read_by_eval_setup():
            step = step_to_read(folder, self.load_step)
            if len(checkpoints_in(folder)) < len(list(folder.iterdir())):
                self.load_step = step
        return folder

    def set_timestamp(self) -> None:
        """Claim the run's folder: a new one's, or that of the run that is taken up again under its own name.

        Raises:
            ValueError: If the folder holds another run or one of other data, another process is writing to it, it
                cannot be made, or it holds checkpoints of after the one that it is taken up at; or if steps, seed or
                the number of processes are out of range.
        """
        whole_number("--max-num-iterations", self.max_num_iterations, 1)
        whole_number("--logging.steps-per-log", self.logging.steps_per_log, 1)
        if not 0 <= self.machine.seed < 1 << 32:
            raise ValueError(f"--machine.seed must lie between 0 and {(1 << 32) - 1}, but it is {self.machine.seed}.")
        require_devices(self.machine)
        folder = self.get_base_dir()
        name_of_folder("--experiment-name", str(self.experiment_name))
        name_of_folder("--timestamp", self.timestamp)
        try:
            if (
                self.load_dir is not None
                and folder.exists()
                and self.load_dir.resolve() == self.get_checkpoint_dir().resolve()
            ):
                lock_run_folder(folder)
                _require_same_data(self, folder)
                require_latest(self.load_dir, self.load_step)
                return
            name = None if self.timestamp == _NO_TIME_YET else self.timestamp
            self.timestamp = claim_run_folder(folder.parent, name, results=(self.relative_model_dir.name,)).name
        except OSError as error:
            reason = error.strerror or error
            raise ValueError(f"{folder.parent} cannot be written to: {reason}. Choose another --output-dir.") from error

    def save_config(self) -> None:
        """Nothing yet: nerfstudio asks for it before it has looked at the data.

        A start that fails leaves no folder, and the settings of a run that it was to take up as they were.
        """

    def write_config(self) -> None:
        """Write ``config.yml``: the run's settings, but not which checkpoint it was taken up from.

        nerfstudio would go on evaluating that one.

        Raises:
            ValueError: If it cannot be written.
        """
        path = self.get_base_dir() / "config.yml"
        own = replace(self, load_dir=None, load_step=None, load_config=None, load_checkpoint=None)
        CONSOLE.log(f"Saving config to: {path}")
        try:
            write_text(path, yaml.dump(own))
        except OSError as error:
            raise ValueError(f"{path} cannot be written: {error.strerror or error}. Make room there.") from error


def _with_options(path: Path, method: str | None, words: list[str]) -> IGATrainerConfig:
    """A run's settings, changed by the options beside ``--load-config``.

    The run is a new one, unless ``--load-dir`` names the checkpoints beside the file: then it is that one, wherever its
    folder is now.

    Args:
        path: ``config.yml`` of a run.
        method: The method that the command line names.
        words: The command line behind the method.

    Raises:
        ValueError: If the file is missing or holds something else.
    """
    saved = _read_config(path)
    if not isinstance(saved, IGATrainerConfig) or saved.method_name != method:
        other = getattr(saved, "method_name", type(saved).__name__)
        raise ValueError(f"--load-config {path} holds settings of {other}, not of {method}. Use it with that method.")
    folder, own = path.resolve().parent, _data_of(saved)
    saved.timestamp, saved.data, name = _NO_TIME_YET, None, saved.experiment_name
    saved.load_step = None  # written there by hand, for commands that read the run
    if own is not None and name == _name_of(own):
        saved.experiment_name = None  # of the data, which may be others
    for load_dir in option_values(words, "--load-dir"):
        if Path(load_dir).resolve() == (folder / saved.relative_model_dir).resolve():
            saved.timestamp, saved.experiment_name = folder.name, name
            if folder.parent.name == saved.method_name:
                saved.experiment_name = folder.parents[1].name
                saved.output_dir = Path(os.path.normpath(path.parent / "../../.."))
    options = tyro.conf.SuppressFixed[tyro.conf.FlagConversionOff[IGATrainerConfig]]
    result: IGATrainerConfig = tyro.cli(options, args=without_option(words, "--load-config"), default=saved)
    result.data = _data_of(result)
    return result


def _read_config(path: Path) -> Any:
    """What a ``config.yml`` holds.

    Raises:
        ValueError: If it cannot be read.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.Loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"--load-config {path} cannot be read: {' '.join(str(error).split())}.") from error


def _data_of(config: TrainerConfig) -> Path | None:
    """Where a training's data are, by whichever option."""
    manager = config.pipeline.datamanager
    found: Path | None = config.data or manager.data or getattr(getattr(manager, "dataparser", None), "data", None)
    return found


def _name_of(data: Path) -> str:
    """What a run of the data is called: by their folder."""
    return Path(os.path.abspath(data.parent if data.is_file() else data)).stem


def _require_same_data(config: IGATrainerConfig, folder: Path) -> None:
    """Refuse to take a run up with the data of another: it would become that one's, its results included.

    Args:
        config: Settings to go on with; their data may have been moved.
        folder: The run's.

    Raises:
        ValueError: If both name something that is there, and not the same.
    """
    if not (folder / "config.yml").exists():
        return
    given, own = _data_of(config), _data_of(_read_config(folder / "config.yml"))
    if given is None or own is None or not (given.exists() and own.exists()):
        return
    if not given.samefile(own):
        raise ValueError(
            f"The run in {folder} is of {own}, not of {given}. Continue it without --data, or begin another run of its "
            f"settings: ns-train {config.method_name} --load-config {folder}/config.yml --data {given}"
        )


def _is_trained_by_this_command(method: str | None) -> bool:
    """Whether the command is ns-train with a method, whose name may be typed with underscores, as options may."""
    return [word.replace("_", "-") for word in sys.argv[1:2]] == [method]


def _read_by_eval_setup() -> list[str]:
    """The file that nerfstudio's ``eval_setup`` is called with, if it is: by commands, and by people's own code."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name == "eval_setup":  # its module imports this one
            return [str(frame.f_locals["config_path"])]
        frame = frame.f_back
    return []


def require_devices(machine: MachineConfig) -> None:
    """Refuse a number of processes that nerfstudio does not start.

    Args:
        machine: Where to train.

    Raises:
        ValueError: If there is no process, or not a CUDA GPU for each of several.
    """
    whole_number("--machine.num-devices", machine.num_devices, 1)
    whole_number("--machine.num-machines", machine.num_machines, 1)
    found = torch.cuda.device_count()
    if machine.num_devices * machine.num_machines > 1 and found < machine.num_devices:
        raise ValueError(
            f"--machine.num-devices is {machine.num_devices}, but torch finds {found} CUDA GPUs here, and ns-train "
            f"starts several processes on such alone. Make it {max(found, 1)}."
        )
