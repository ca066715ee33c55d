"""The training loop of images, shapes and signals."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from iga_nerfstudio.adjustment import Axes, AxesAdjuster, Blocks, InductiveGradientAdjuster
from iga_nerfstudio.adjustment.history import SpectrumHistory
from iga_nerfstudio.divergence import require_finite_loss, require_finite_weights
from iga_nerfstudio.networks import CoordinateMLP
from iga_nerfstudio.stopping import stop_on_signals
from iga_nerfstudio.tasks.checkpoints import Checkpoints
from iga_nerfstudio.tasks.config import TaskConfig
from iga_nerfstudio.tasks.optimizers import build_optimizer, build_schedule
from iga_nerfstudio.tasks.samples import Batches
from iga_nerfstudio.tasks.setup import (
    adjust_from,
    build_adjuster,
    build_axes_adjuster,
    chunk_size,
    initial_network,
    steps_between_points,
)
from iga_nerfstudio.tasks.step import accumulate_gradient

logger = logging.getLogger("iga_nerfstudio")

# Called with the step and named figures: a progress bar, TensorBoard.
Watcher = Callable[[int, dict[str, float]], None]


@dataclass
class Best:
    """The best model so far by one metric, higher being better."""

    step: int = -1
    metrics: dict[str, float] = field(default_factory=dict)
    weights: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class Record:
    """What a run leaves behind besides its model.

    Attributes:
        steps: Steps taken.
        seconds: Time spent in training steps, over all sessions of the run.
        history: Steps and values of every logged figure, by name.
        evaluations: Steps and values of every metric on all of the data, by name.
        interrupted: Whether the run stopped before its last step, by Ctrl-C or SIGTERM.
    """

    steps: int = 0
    seconds: float = 0.0
    history: dict[str, tuple[list[int], list[float]]] = field(default_factory=dict)
    evaluations: dict[str, tuple[list[int], list[float]]] = field(default_factory=dict)
    interrupted: bool = False


class Trainer:
    """Trains one network and keeps the best.

    Args:
        config: Settings of the run.
        sizes: ``(d, C)``: coordinates per point and values per point.
        batches: Where steps get their data; on the device that ``config.machine`` names.
        grouping: All groups of the data, of which batches may bring some; or the axes of a grid, to adjust along.
        evaluate: Metrics of the network on all of the data.
        metric: The one that decides which model is best; higher is better.
        checkpoints: Where to save, or None to keep everything in memory.
        watchers: Told every logged figure.

    Raises:
        ValueError: If a setting is out of range.
    """

    def __init__(
        self,
        config: TaskConfig,
        sizes: tuple[int, int],
        batches: Batches,
        grouping: Blocks | Axes,
        evaluate: Callable[[CoordinateMLP], dict[str, float]],
        metric: str,
        checkpoints: Checkpoints | None = None,
        watchers: tuple[Watcher, ...] = (),
    ) -> None:
        self.config = config
        self.sizes = sizes
        self.network = initial_network(config, sizes, batches.samples)
        # The same weights. The kernel's pass looks into the layers, so it goes through the network itself.
        self._run = cast(nn.Module, torch.compile(self.network)) if config.machine.compile else self.network
        self.optimizer = build_optimizer(config.optimizer, config.network, self.network)
        self.schedule = build_schedule(config.schedule, self.optimizer, config.max_num_iterations)
        self.adjuster: InductiveGradientAdjuster | AxesAdjuster
        if isinstance(grouping, Axes):
            self.adjuster = build_axes_adjuster(config, self.network, grouping)
        else:
            self.adjuster = build_adjuster(config, self.network, grouping, batches)
        share = adjust_from(config) if self.adjuster.enabled else 0.0
        self._first_adjusted = math.ceil(share * config.max_num_iterations)
        self.batches = batches
        self.best = Best()
        self.record = Record()
        self.spectra = SpectrumHistory()
        self._steps_per_log, self._steps_per_eval = steps_between_points(config)
        self._evaluate, self._metric = evaluate, metric
        self.checkpoints, self.watchers = checkpoints, watchers
        self._saved_at: int | None = None

    def train(self) -> Record:
        """Take the steps that are left, or stop early on Ctrl-C; the state is saved either way.

        Raises:
            TrainingDiverged: If loss or weights are no longer finite. Checkpoints and the best model are from before.
            OSError: If the last checkpoint cannot be written. Failures before it are logged and training goes on.
        """
        with stop_on_signals() as stopping:
            if not self.record.evaluations:  # nor before a stop that came ahead of the first step
                self._evaluate_now()
            while self.record.steps < self.config.max_num_iterations and not stopping.is_set():
                self.step()
                step, last = self.record.steps, self.record.steps == self.config.max_num_iterations
                if step % self._steps_per_eval == 0 or last:
                    self._evaluate_now()
                if step % self.config.steps_per_save == 0 and not last:
                    self._save_or_log()
        self.record.interrupted = self.record.steps < self.config.max_num_iterations
        self._save()
        return self.record

    def step(self) -> None:
        """Take one training step."""
        start = time.perf_counter()
        self.network.train()
        # Never after that: whoever turns the adjuster off or on meanwhile is the last to say so.
        if self.record.steps < self._first_adjusted:
            self.adjuster.reconfigure(enabled=False)
        elif self.record.steps == self._first_adjusted > 0:
            self.adjuster.reconfigure(enabled=True)
        batch = self.batches.next()
        self.optimizer.zero_grad()
        prediction = accumulate_gradient(
            self._run,
            self.adjuster,
            batch,
            chunk_size(self.config),
            self.config.machine.mixed_precision,
        )
        self.optimizer.step()
        self.schedule.step()
        self.record.steps += 1
        if self.record.steps % self._steps_per_log == 0:
            self._log_step(mse_loss(prediction, batch.target).item())
        self.record.seconds += time.perf_counter() - start

    def _log_step(self, loss: float) -> None:
        """Figures of the step just taken; the loss is that before its update."""
        require_finite_loss(loss, self.record.steps, self._rate, self._saved)
        figures: dict[str, float] = {"train/loss": loss, "train/lr": float(self.schedule.get_last_lr()[0])}
        seen = self.adjuster.diagnostics
        if self.adjuster.enabled and len(seen.eigenvalues):
            figures |= {
                "iga/leading_eigenvalue": seen.eigenvalues[0].item(),
                "iga/target_eigenvalue": seen.target.item(),
                "iga/effective_rank": seen.effective_rank.item(),
                "iga/steps_unadjusted": float(seen.steps_unadjusted),
            }
        self.spectra.record(self.adjuster)
        self._log(figures, self.record.history)

    def _evaluate_now(self) -> None:
        metrics = self._evaluate(self.network)
        self._log(metrics, self.record.evaluations)
        if not self.best.metrics or metrics[self._metric] > self.best.metrics[self._metric]:
            # A copy: the weights in the network go on changing.
            weights = {name: value.detach().cpu().clone() for name, value in self.network.state_dict().items()}
            self.best = Best(self.record.steps, metrics, weights)

    def _log(self, figures: dict[str, float], curves: dict[str, tuple[list[int], list[float]]]) -> None:
        for name, value in figures.items():
            steps, values = curves.setdefault(name, ([], []))
            steps.append(self.record.steps)
            values.append(value)
        for watcher in self.watchers:
            watcher(self.record.steps, figures)

    def _save_or_log(self) -> None:
        """A checkpoint that cannot be written is no reason to throw the training away."""
        try:
            self._save()
        except OSError as error:
            logger.warning(
                "The checkpoint of step %d could not be written (%s). Training goes on; %s.",
                self.record.steps,
                error,
                "none is saved yet" if self._saved_at is None else f"the one of step {self._saved_at} is still there",
            )

    def _save(self) -> None:
        require_finite_weights(self.network.state_dict(), self.record.steps, self._rate, self._saved)
        if self.checkpoints is not None:
            self.checkpoints.save(self.record.steps, self.state_dict())
            self._saved_at = self.record.steps

    @property
    def _rate(self) -> str:
        return f"{self.schedule.get_last_lr()[0]:.1e}, --optimizer.lr"

    @property
    def _saved(self) -> str:
        return f"The best model so far is from step {self.best.step}."

    def state_dict(self) -> dict[str, Any]:
        """All that the run needs to go on bit for bit."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": {"last_epoch": self.schedule.last_epoch},
            "adjuster": self.adjuster.state_dict(),
            "batches": self.batches.state_dict(),
            "best": vars(self.best),
            "spectra": self.spectra.state_dict(),
            "record": {name: value for name, value in vars(self.record).items() if name != "interrupted"},
        }

    def _given_rate(self, group: dict[str, Any]) -> float | None:
        """The learning rate that the settings give for a parameter group, if they do."""
        settings = self.config.optimizer
        return settings.adam_lr if settings.kind == "muon" and "betas" in group else settings.lr

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the state of an earlier session.

        Raises:
            ValueError: If it is of another network, optimiser or data.
        """
        try:
            self.network.load_state_dict(state["network"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.adjuster.load_state_dict(state["adjuster"])
            self.batches.load_state_dict(state["batches"])
            self.best = Best(**state["best"])
            self.record = Record(**state["record"])
            if "spectra" in state:  # not of runs begun before there were any
                self.spectra.load_state_dict(state["spectra"])
        except (KeyError, TypeError, RuntimeError, ValueError) as error:
            raise ValueError(
                f"The checkpoint is of a run with another network, optimiser or data ({str(error).splitlines()[0]}). "
                "Continue a run with the settings that it was started with."
            ) from error
        self._saved_at = self.record.steps
        self.schedule.last_epoch = state["schedule"]["last_epoch"]
        # Of no setting: what the run began with, whatever suits its network today.
        groups = self.optimizer.param_groups
        self.schedule.base_lrs = [
            group["initial_lr"] if self._given_rate(group) is None else base
            for group, base in zip(groups, self.schedule.base_lrs, strict=True)
        ]
        # Recomputed rather than restored, so that a longer --max-num-iterations has its own schedule.
        for group, base, factor in zip(groups, self.schedule.base_lrs, self.schedule.lr_lambdas, strict=True):
            group["lr"] = base * factor(self.schedule.last_epoch)
        self.schedule._last_lr = [group["lr"] for group in self.optimizer.param_groups]
