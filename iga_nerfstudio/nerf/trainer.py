"""nerfstudio's trainer for runs that people stop, take up again, and rely on."""

from __future__ import annotations

import errno
import logging
import os
import re
import socket
import sys
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import torch
import tyro
import yaml
from nerfstudio.configs.base_config import LoggingConfig, MachineConfig, ViewerConfig
from nerfstudio.engine.trainer import TRAIN_INTERATION_OUTPUT, Trainer, TrainerConfig
from nerfstudio.utils import comms, writer
from nerfstudio.utils.rich_utils import CONSOLE
from nerfstudio.utils.writer import TensorboardWriter

from iga_nerfstudio.allocator import reuse_host_memory
from iga_nerfstudio.arguments import expand_homes, name_of_folder, positive_rate, whole_number
from iga_nerfstudio.curves import tolerant
from iga_nerfstudio.devices import default_device, require_device
from iga_nerfstudio.divergence import require_finite_loss, require_finite_weights
from iga_nerfstudio.files import write_text
from iga_nerfstudio.nerf.nerfstudio_fixes.fair_lock import FairLock
from iga_nerfstudio.nerf.nerfstudio_fixes.training_lines import TrainingLinesConfig
from iga_nerfstudio.nerf.random_state import random_state, restore_random_state, seed_generators
from iga_nerfstudio.run_folders import claim_run_folder, lock_run_folder
from iga_nerfstudio.stopping import INTERRUPTED, stop_on_signals
from iga_nerfstudio.tensor_files import checksum, load_tensors, save_tensors

logger = logging.getLogger("iga_nerfstudio")

LOOPBACK = "127.0.0.1"
_NO_TIME_YET = "{timestamp}"  # nerfstudio's
_STAGING = ".checkpoint-being-written"


@dataclass
class IGATrainerConfig(TrainerConfig):
    """nerfstudio's trainer configuration; ``--load-config`` with options beside it honours both."""

    _target: type = field(default_factory=lambda: IGATrainer)
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
            host = value.websocket_host if _option_values(sys.argv, "--viewer.websocket-host") else LOOPBACK
            value = replace(value, websocket_host=host, websocket_port=_port_of(value, host))
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
            for path in [*_option_values(sys.argv, "--load-config"), *_read_by_eval_setup()][-1:]:
                if (Path(path).parent / self.relative_model_dir).is_dir():
                    return Path(path).parent
        return super().get_base_dir()

    def get_checkpoint_dir(self) -> Path:
        """As nerfstudio's; what reads a run is told the latest checkpoint too, whatever else is in the folder.

        nerfstudio 1.1.5 takes all files there for checkpoints.

        Raises:
            ValueError: If a run is read that has none, or not the one that its settings name.
        """
        folder = super().get_checkpoint_dir()
        if _read_by_eval_setup():
            self.load_step = _step_to_read(folder, self.load_step)
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
                _require_latest(self.load_dir, self.load_step)
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


class IGATrainer(Trainer):
    """Saves what can be saved, and nothing that is broken; goes on where a run ended, bit for bit on a CPU."""

    config: IGATrainerConfig

    def __init__(self, config: IGATrainerConfig, local_rank: int = 0, world_size: int = 1) -> None:
        require_device(config.machine.device_type)
        super().__init__(config, local_rank, world_size)
        # Steps of milliseconds would keep the viewer's threads from ever getting nerfstudio's.
        self.train_lock = FairLock()  # type: ignore[assignment]
        self._interrupted = threading.Event()
        self._told_to_stop = False
        # Of the latest step, and whether it was the last.
        self.last_step = -1
        self._ending = False
        self._random_state: dict[str, Any] | None = None

    @property
    def stop_training(self) -> bool:
        """Whether the loop is to end before its next step."""
        return self._told_to_stop or self._interrupted.is_set()

    @stop_training.setter
    def stop_training(self, stop: bool) -> None:
        self._told_to_stop = stop

    def setup(self, test_mode: Literal["test", "val", "inference"] = "val") -> None:
        """As nerfstudio's; says where it trains, and on a CPU training steps use their memory again."""
        CONSOLE.print(f"Training on {self.device}; --machine.device-type decides otherwise.")
        if torch.device(self.device).type == "cpu":
            reuse_host_memory()
        if self.config.is_viewer_enabled() and self.local_rank == 0:
            self.config.viewer.websocket_port = _port_of(self.config.viewer, self.config.viewer.websocket_host)
        try:
            super().setup(test_mode)
        except KeyboardInterrupt:
            CONSOLE.print("Stopped before the first step; there is nothing to save.")
            raise SystemExit(INTERRUPTED) from None
        for curves in writer.EVENT_WRITERS:
            if isinstance(curves, TensorboardWriter):
                for name in ("write_scalar", "write_image", "write_config"):
                    setattr(curves, name, tolerant(getattr(curves, name)))

    def setup_optimizers(self) -> Any:
        """As nerfstudio's.

        Raises:
            ValueError: If a learning rate is not positive and finite, or gradients are to be accumulated for what has
                no optimiser, or over less than one step.
        """
        for group, steps in self.config.gradient_accumulation_steps.items():
            if group not in self.config.optimizers:
                known = ", ".join(self.config.optimizers)
                raise ValueError(f"--gradient-accumulation-steps names {group}, but the optimisers are: {known}.")
            whole_number(f"--gradient-accumulation-steps {group}", steps, 1)
        for group, settings in self.config.optimizers.items():
            positive_rate(f"--optimizers.{group}.optimizer.lr", settings["optimizer"].lr)
        return super().setup_optimizers()

    def train(self) -> None:
        """Take the steps that are left of ``max_num_iterations``.

        The first Ctrl-C or SIGTERM ends the loop after the step that is under way: the state is saved, and the process
        exits with status 130. One whose output nobody reads any longer saves and exits, too.

        Raises:
            ValueError: If no step is left.
            TrainingDiverged: If loss or weights are no longer finite; checkpoints are from before.
        """
        total = self.config.max_num_iterations
        if self._start_step >= total:
            raise ValueError(
                f"The checkpoint has taken {self._start_step} steps already, and --max-num-iterations asks for {total} "
                "in all. Give a larger number to go on."
            )
        if comms.is_main_process():
            self.config.write_config()
        if comms.is_main_process() and self._random_state is not None:
            restore_random_state(self._random_state, self.pipeline.datamanager)
        elif self._start_step:  # the state in the checkpoint is the main process's: others need draws of their own
            seed_generators(self.config.machine.seed + comms.get_rank() + self._start_step)
        # nerfstudio's loop takes that many more.
        self.config.max_num_iterations = total - self._start_step
        self.step = self.last_step = self._start_step - 1
        try:
            with stop_on_signals() as self._interrupted:
                super().train()
        except BrokenPipeError:
            # Who read what is printed has left (| head), which is no reason to lose the steps.
            if self.last_step >= self._start_step:
                self.save_checkpoint(self.last_step)
            raise
        finally:
            self.config.max_num_iterations = total

    def train_iteration(self, step: int) -> TRAIN_INTERATION_OUTPUT:
        """One step of nerfstudio's.

        Raises:
            TrainingDiverged: If the loss is not finite at a step that is logged; under a gradient scaler it may be.
        """
        loss, losses, metrics = super().train_iteration(step)
        if step % self.config.logging.steps_per_log == 0 and not self.grad_scaler.is_enabled():
            require_finite_loss(float(loss.detach()), step, self._rates, self._saved)
        self.last_step = step
        return loss, losses, metrics

    def _after_train(self) -> None:
        # nerfstudio counts the step that it was about to take when it was stopped.
        self.step = self.last_step
        self._ending = True
        if self._interrupted.is_set() and self.step + 1 < self._start_step + self.config.max_num_iterations:
            self._stop_early()
        if self.step < 0:
            return
        if comms.is_main_process() and not (self.base_dir / "config.yml").exists():
            # Somebody has cleared the folder meanwhile. While nerfstudio trains, its number is of the steps left.
            replace(self.config, max_num_iterations=self._start_step + self.config.max_num_iterations).write_config()
        super()._after_train()

    def _stop_early(self) -> None:
        """Save, say how to go on, and exit."""
        if self.step >= 0:
            self.save_checkpoint(self.step)
            writer.write_out_storage()
        total = self._start_step + self.config.max_num_iterations
        saved = f"the state is saved. Continue with:\n{self._how_to_continue()}" if self.step >= 0 else "none to save."
        if comms.is_main_process():
            message = f"Stopped after {self.step + 1} of {total} steps; {saved}"
            CONSOLE.print(message, markup=False, highlight=False, soft_wrap=True)
        self.shutdown()
        raise SystemExit(INTERRUPTED)

    def _how_to_continue(self) -> str:
        config, models = self.base_dir / "config.yml", self.checkpoint_dir
        return f"  ns-train {self.config.method_name} --load-config {config} --load-dir {models}"

    def _train_complete_viewer(self) -> None:
        """Keep the viewer open until Ctrl-C or SIGTERM, which is how nerfstudio's users end it, too."""
        if self.viewer_state is None or not comms.is_main_process():
            return
        self.training_state = "completed"
        self.viewer_state.training_complete()
        CONSOLE.print("The viewer stays open until Ctrl-C.")
        self._interrupted.wait()
        self.shutdown()

    def _update_viewer_state(self, step: int) -> None:
        """As nerfstudio's, which a client that leaves at the wrong moment can bring down together with the training."""
        try:
            super()._update_viewer_state(step)
        except (KeyError, OSError) as error:
            logger.warning("A viewer left while it was being updated at step %d; training goes on. (%r)", step, error)
        self.between_steps()

    def between_steps(self) -> None:
        """Called after every step; a viewer puts its own work in the place of this."""

    def save_checkpoint(self, step: int) -> None:
        """Write a checkpoint in place of nothing, or not at all; only then delete older ones.

        A run that dies while saving leaves the checkpoint before untouched. Of several processes the main one saves.
        One that cannot be written while training goes on is logged.

        Raises:
            TrainingDiverged: If weights are not finite.
            ValueError: If the last one cannot be written.
        """
        if not comms.is_main_process():
            return
        path = self.checkpoint_dir / f"step-{step:09d}.ckpt"
        try:
            save_tensors(path, self._state(step), staging=self.checkpoint_dir.parent / _STAGING)
        except OSError as error:
            message = f"The checkpoint of step {step} could not be written ({error.strerror or error}). {self._saved}"
            if self._ending:
                raise ValueError(f"{message} Make room and train on from it.") from error
            logger.warning("%s Training goes on.", message)
            return
        if self.config.save_only_latest_checkpoint:
            for older in _checkpoints(self.checkpoint_dir):
                if older != path:
                    older.unlink()

    def _state(self, step: int) -> dict[str, Any]:
        """nerfstudio's checkpoint, and what chance has decided."""
        pipeline = getattr(self.pipeline, "module", self.pipeline).state_dict()
        require_finite_weights(pipeline, step, self._rates, self._saved)
        return {
            "step": step,
            "pipeline": pipeline | {"checksum": checksum(pipeline)},
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.optimizers.items()},
            "schedulers": {name: schedule.state_dict() for name, schedule in self.optimizers.schedulers.items()},
            "scalers": self.grad_scaler.state_dict(),
            "random": random_state(self.pipeline.datamanager),
        }

    @property
    def _rates(self) -> str:
        groups = self.optimizers.optimizers.items()
        return ", ".join(f"{group['lr']:.1e} of {name}" for name, own in groups for group in own.param_groups[:1])

    @property
    def _saved(self) -> str:
        paths = _checkpoints(self.checkpoint_dir)
        return f"{paths[-1]} is intact." if paths else "There is no checkpoint yet."

    def _load_checkpoint(self) -> None:
        path = self._requested_checkpoint()
        if path is None:
            CONSOLE.print("No checkpoint to load, so training from scratch.")
            return
        if not path.exists():
            raise ValueError(f"There is no checkpoint {path}.{_alternatives(path)}")
        try:
            state = load_tensors(path)
        except ValueError as error:
            raise ValueError(f"{error}{_alternatives(path)}") from error
        try:
            self.pipeline.load_pipeline(state["pipeline"], state["step"])
            self.optimizers.load_optimizers(state["optimizers"])
            if "schedulers" in state and self.config.load_scheduler:
                self.optimizers.load_schedulers(state["schedulers"])
            self.grad_scaler.load_state_dict(state["scalers"])
        except (RuntimeError, KeyError, ValueError) as error:
            raise ValueError(
                f"The checkpoint {path} is of another model or optimiser, or of another size "
                f"({type(error).__name__}: {str(error).splitlines()[0]}). Continue a run with its own settings: "
                f"--load-config {path.parent.parent / 'config.yml'}."
            ) from error
        self._start_step = state["step"] + 1
        self._random_state = state.get("random")
        if self._random_state is None:
            logger.warning("%s holds no random state: it goes on with other random numbers.", path)
        CONSOLE.print(f"Continuing after step {state['step']} of {path}.", soft_wrap=True)

    def _requested_checkpoint(self) -> Path | None:
        """The file to load, or None."""
        if self.config.load_dir is None:
            if self.config.load_step is not None:
                raise ValueError(
                    f"--load-step {self.config.load_step} is of no use alone. Give --load-dir, the folder of a run's "
                    "checkpoints, beside it."
                )
            return self.config.load_checkpoint
        if self.config.load_step is not None:
            return self.config.load_dir / f"step-{self.config.load_step:09d}.ckpt"
        found = _checkpoints(self.config.load_dir)
        if not found:
            raise ValueError(
                f"--load-dir {self.config.load_dir} holds no checkpoint (step-*.ckpt). Give the folder "
                "outputs/<data>/<method>/<timestamp>/nerfstudio_models of a run."
            )
        return found[-1]


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
    for load_dir in _option_values(words, "--load-dir"):
        if Path(load_dir).resolve() == (folder / saved.relative_model_dir).resolve():
            saved.timestamp, saved.experiment_name = folder.name, name
            if folder.parent.name == saved.method_name:
                saved.experiment_name = folder.parents[1].name
                saved.output_dir = Path(os.path.normpath(path.parent / "../../.."))
    options = tyro.conf.SuppressFixed[tyro.conf.FlagConversionOff[IGATrainerConfig]]
    result: IGATrainerConfig = tyro.cli(options, args=_without_option(words, "--load-config"), default=saved)
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


def _option_values(words: list[str], name: str) -> list[str]:
    """The values that a command line gives an option, written ``--a-b value``, ``--a_b value`` or ``--a-b=value``."""
    values = []
    for word, following in zip(words, [*words[1:], ""], strict=True):
        option, equals, value = word.partition("=")
        if option.replace("_", "-") == name:
            values.append(value if equals else following)
    return values


def _read_by_eval_setup() -> list[str]:
    """The file that nerfstudio's ``eval_setup`` is called with, if it is: by commands, and by people's own code."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name == "eval_setup":  # its module imports this one
            return [str(frame.f_locals["config_path"])]
        frame = frame.f_back
    return []


def _without_option(words: list[str], name: str) -> list[str]:
    """A command line without an option and its value."""
    kept, skip = [], False
    for word in words:
        option, equals, _value = word.partition("=")
        named = option.replace("_", "-") == name
        if not named and not skip:
            kept.append(word)
        skip = named and not equals
    return kept


def _port_of(viewer: ViewerConfig, host: str) -> int:
    """A port that a viewer can have: the one asked for, else nerfstudio's, or the next that is free."""
    return find_port(host, viewer.websocket_port or viewer.websocket_port_default)


def find_port(host: str, port: int) -> int:
    """A port that the viewer can have, told where it is not the one asked for.

    Args:
        host: Address that the viewer listens on.
        port: The port asked for.

    Returns:
        The port, or the next one that is free.

    Raises:
        ValueError: If there is none, or the host is not this machine's.
    """
    for candidate in range(port, min(port + 1000, 1 << 16)):
        with socket.socket() as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                server.bind((host, candidate))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise ValueError(
                        f"The viewer cannot listen on {host}:{candidate}: {error.strerror}. Change "
                        "--viewer.websocket-host or --viewer.websocket-port."
                    ) from error
                continue
        if candidate != port:
            logger.warning("Port %d is in use; the viewer takes %d.", port, candidate)
        return candidate
    raise ValueError(f"The viewer found no free port from {port} on. Choose another with --viewer.websocket-port.")


def _checkpoints(folder: Path) -> list[Path]:
    """Checkpoints in a folder, oldest first."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if re.fullmatch(r"step-\d+\.ckpt", path.name))


def _step_of(path: Path) -> int:
    return int(path.stem.removeprefix("step-"))


def _step_to_read(folder: Path, step: int | None) -> int:
    """The step of the checkpoint that a command is to read: the one that a run's settings name, or else the latest.

    Raises:
        ValueError: If there is none.
    """
    steps = [_step_of(path) for path in _checkpoints(folder)]
    if not steps:
        raise ValueError(
            f"{folder} holds no checkpoint (step-*.ckpt). Train the run first, or put its checkpoint there."
        )
    if step is not None and step not in steps:
        there = ", ".join(map(str, steps[-5:]))
        raise ValueError(f"{folder} holds no checkpoint of step {step}, load_step in config.yml. There are: {there}.")
    return steps[-1] if step is None else step


def _require_latest(folder: Path, step: int | None) -> None:
    """Refuse to take a run up at a step before its last: what came after would pass for what comes now.

    Raises:
        ValueError: If there are later checkpoints.
    """
    later = [path.name for path in _checkpoints(folder) if step is not None and _step_of(path) > step]
    if later:
        raise ValueError(
            f"--load-step {step}: {folder} holds {', '.join(later[-5:])}, which would pass for what comes now. Give "
            "--timestamp with another name to go on in a run of its own, or put them elsewhere."
        )


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


def _alternatives(path: Path) -> str:
    """A hint at other checkpoints beside one, or nothing."""
    others = [other for other in _checkpoints(path.parent) if other != path]
    if not others:
        return ""
    steps = ", ".join(str(_step_of(other)) for other in others[-5:])
    return f" Others beside it are untouched; choose one with --load-step: {steps}."
