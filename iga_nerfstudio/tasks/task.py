"""What the training loop and the command lines need to know of a kind of data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch

from iga_nerfstudio.adjustment import Axes, Blocks
from iga_nerfstudio.evaluation.squares import side_of_squares
from iga_nerfstudio.networks import CoordinateMLP, build_network
from iga_nerfstudio.tasks.checkpoints import Checkpoints
from iga_nerfstudio.tasks.config import TaskConfig
from iga_nerfstudio.tasks.samples import Batches
from iga_nerfstudio.tasks.setup import choose_device, validate
from iga_nerfstudio.tasks.trainer import Record, Trainer, Watcher

AnyConfig = TypeVar("AnyConfig", bound=TaskConfig)


class Task(ABC, Generic[AnyConfig]):
    """One kind of data, and how a network is trained and judged on it.

    Attributes:
        config: Settings of the run.
        device: Where it runs.
        sizes: ``(d, C)``: coordinates per point and values per point.
        metric: What decides which model is best; higher is better.
        grouping: All groups of the data, or the axes of its grid, to adjust along.
        batches: Where training steps get their data.
    """

    config: AnyConfig
    device: torch.device
    sizes: tuple[int, int]
    metric: str
    grouping: Blocks | Axes
    batches: Batches

    def __init__(self, config: AnyConfig) -> None:
        validate(config)
        self.config = config
        self.device = choose_device(config.machine)

    def trainer(self, checkpoints: Checkpoints | None = None, watchers: tuple[Watcher, ...] = ()) -> Trainer:
        """The training loop on this data.

        Args:
            checkpoints: Where to save; None keeps everything in memory.
            watchers: Told every logged figure.

        Raises:
            ValueError: If a setting is out of range.
        """
        return Trainer(
            self.config, self.sizes, self.batches, self.grouping, self.evaluate, self.metric, checkpoints, watchers
        )

    @abstractmethod
    def evaluate(self, network: CoordinateMLP) -> dict[str, float]:
        """Metrics on all of the data that are quick enough to follow while training."""

    @abstractmethod
    def final_metrics(self, network: CoordinateMLP) -> dict[str, float]:
        """All metrics on all of the data."""

    @abstractmethod
    def description(self) -> dict[str, Any]:
        """What else one needs to use the model later: sizes and places, plain values."""

    @abstractmethod
    def comparison(self, network: CoordinateMLP) -> tuple[np.ndarray, np.ndarray]:
        """Ground truth and what the network makes of it, as pictures of one size, ``(H, W, 3)`` in [0, 1]."""

    def preview(self, network: CoordinateMLP, largest_side: int) -> tuple[np.ndarray, np.ndarray]:
        """The same for a glance while training: thinned to at most so many pixels along each side.

        Args:
            network: The network.
            largest_side: Most pixels along a side.

        Returns:
            Two pictures of one size, ``(H, W, 3)`` in [0, 1].
        """
        truth, found = self.comparison(network)
        step = side_of_squares(truth.shape[:2], largest_side)
        return truth[::step, ::step], found[::step, ::step]

    @abstractmethod
    def caption(self) -> str:
        """What :meth:`comparison`'s pictures show, and how large the data are, in a sentence."""

    def resolved_settings(self) -> dict[str, Any]:
        """Settings of this kind of data that the configuration leaves open, as they were chosen, by name."""
        return {}

    @abstractmethod
    def write_results(self, network: CoordinateMLP, folder: Path) -> list[Path]:
        """Write reconstruction and pictures into a folder; the files written, the reconstruction first."""


def refuse_settings(config: TaskConfig, names: Iterable[str], of: str) -> None:
    """Refuse settings that would be left aside without a word.

    Args:
        config: The run's settings.
        names: Those that have no meaning for its data.
        of: What the data are, as ``"for an array"``.

    Raises:
        ValueError: If one is not its default.
    """
    plain = type(config)()
    for name in names:
        value = getattr(config, name)
        if value != getattr(plain, name):
            raise ValueError(f"{name}={value} has no meaning {of}. Leave it out.")


@dataclass(frozen=True)
class Fit:
    """A trained network and how it came about.

    Attributes:
        model: The network after the last step, in evaluation mode.
        best_model: The network at the best evaluation.
        metrics: All metrics of the model after the last step.
        best_metrics: All metrics of the best one.
        best_step: When that was.
        record: Training curves, steps and seconds.
    """

    model: CoordinateMLP
    best_model: CoordinateMLP
    metrics: dict[str, float]
    best_metrics: dict[str, float]
    best_step: int
    record: Record


def fit(task: Task[Any], watchers: tuple[Watcher, ...] = ()) -> Fit:
    """Train on a task's data, in memory.

    Args:
        task: The data and its settings.
        watchers: Called with the step and named figures, whenever some are logged.

    Raises:
        ValueError: If a setting is out of range.
        TrainingDiverged: If the loss is no longer finite.
    """
    trainer = task.trainer(watchers=watchers)
    trainer.train()
    return conclude(task, trainer)


def conclude(task: Task[Any], trainer: Trainer) -> Fit:
    """Judge the last and the best model of a training."""
    model, best_model = trainer.network.eval(), best_network(trainer)
    metrics = task.final_metrics(model)
    same = trainer.best.step == trainer.record.steps
    return Fit(
        model,
        best_model,
        metrics,
        metrics if same else task.final_metrics(best_model),
        trainer.best.step,
        trainer.record,
    )


def best_network(trainer: Trainer) -> CoordinateMLP:
    """The network of a training's best evaluation, in evaluation mode."""
    in_dim, out_dim = trainer.sizes
    network = build_network(trainer.config.network, in_dim, out_dim)
    network.load_state_dict(trainer.best.weights)
    return network.to(next(trainer.network.parameters()).device).eval()
