"""nerfstudio's trainer for runs that people stop, take up again, and rely on."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from nerfstudio.engine.trainer import TRAIN_INTERATION_OUTPUT, Trainer
from nerfstudio.utils import comms, writer
from nerfstudio.utils.rich_utils import CONSOLE
from nerfstudio.utils.writer import TensorboardWriter

from iga_nerfstudio.allocator import reuse_host_memory
from iga_nerfstudio.arguments import positive_rate, whole_number
from iga_nerfstudio.curves import tolerant
from iga_nerfstudio.devices import require_device
from iga_nerfstudio.divergence import require_finite_loss, require_finite_weights
from iga_nerfstudio.nerf.checkpoint_files import checkpoints_in, other_steps
from iga_nerfstudio.nerf.nerfstudio_fixes.fair_lock import FairLock
from iga_nerfstudio.nerf.ports import port_of
from iga_nerfstudio.nerf.random_state import random_state, restore_random_state, seed_generators
from iga_nerfstudio.nerf.trainer_config import IGATrainerConfig  # config.yml of earlier runs name it as of here
from iga_nerfstudio.stopping import INTERRUPTED, stop_on_signals
from iga_nerfstudio.tensor_files import checksum, load_tensors, save_tensors

logger = logging.getLogger("iga_nerfstudio")

_STAGING = ".checkpoint-being-written"


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
            self.config.viewer.websocket_port = port_of(self.config.viewer, self.config.viewer.websocket_host)
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
            for older in checkpoints_in(self.checkpoint_dir):
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
        paths = checkpoints_in(self.checkpoint_dir)
        return f"{paths[-1]} is intact." if paths else "There is no checkpoint yet."

    def _load_checkpoint(self) -> None:
        path = self._requested_checkpoint()
        if path is None:
            CONSOLE.print("No checkpoint to load, so training from scratch.")
            return
        if not path.exists():
            raise ValueError(f"There is no checkpoint {path}.{other_steps(path)}")
        try:
            state = load_tensors(path)
        except ValueError as error:
            raise ValueError(f"{error}{other_steps(path)}") from error
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
        found = checkpoints_in(self.config.load_dir)
        if not found:
            raise ValueError(
                f"--load-dir {self.config.load_dir} holds no checkpoint (step-*.ckpt). Give the folder "
                "outputs/<data>/<method>/<timestamp>/nerfstudio_models of a run."
            )
        return found[-1]
