"""What the studies of photographs share: data, sizes, the paper's settings, and rates chosen before they are judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal

from iga_nerfstudio.benchmark.paper import photograph_settings
from iga_nerfstudio.benchmark.study import Study, Train
from iga_nerfstudio.benchmark.sweep import Outcome, Training, whole
from iga_nerfstudio.benchmark.tables import finished, grouped, those
from iga_nerfstudio.networks.builder import NetworkKind
from iga_nerfstudio.tasks.config import MachineConfig, OptimizerConfig
from iga_nerfstudio.tasks.image import ImageConfig, load_image_task
from iga_nerfstudio.tasks.task import fit
from iga_nerfstudio.tasks.trainer import Record

OptimizerKind = Literal["adam", "muon"]
AnyOptimizer = Literal["adam", "muon", "soap"]


def optimizer_settings(kind: AnyOptimizer, network: NetworkKind, lr: float | None = None) -> OptimizerConfig:
    """The settings of an optimiser.

    Where Adam's rate under Muon and the first layer's optimiser decide nothing, they are what they were before there
    was a choice, so that trainings of then are found.
    """
    if kind == "muon" and network != "pe":
        return OptimizerConfig(kind, lr)
    return OptimizerConfig(kind, lr, adam_lr=1e-3, first_layer="muon")


def train_photograph(config: ImageConfig) -> Outcome:
    """Train once; PSNR along the training."""
    return outcome_of(whole(load_image_task(config).trainer().train()))


def outcome_of(record: Record) -> Outcome:
    """PSNR along a training."""
    steps, values = record.evaluations["psnr"]
    return {
        "psnr": values[-1],
        "best_psnr": max(values),
        "milliseconds_per_step": 1000 * record.seconds / record.steps,
        "curve": [[step, round(value, 3)] for step, value in zip(steps, values, strict=True)],
    }


def train_and_judge(config: ImageConfig) -> Outcome:
    """Train once; all metrics after the last step, and the best PSNR."""
    fitted = fit(load_image_task(config))
    record = whole(fitted.record)
    milliseconds = 1000 * record.seconds / record.steps
    return fitted.metrics | {"best_psnr": fitted.best_metrics["psnr"], "milliseconds_per_step": milliseconds}


@dataclass(frozen=True)
class Entry:
    """One of those that are compared.

    Attributes:
        labels: What distinguishes it from the others.
        config: Its settings but for photograph, rate and seed.
        rates: Learning rates to choose from.
        run: What a training of it does.
    """

    labels: Mapping[str, Any]
    config: ImageConfig
    rates: Sequence[float]
    run: Callable[[Any], Outcome] = train_photograph


@dataclass(frozen=True)
class Photographs(Study):
    """Networks fitted to photographs."""

    data: Path  # Folder of the photographs, <name>.png.
    max_side: int = 96  # They are shrunk to that many pixels.
    hidden_dim: int = 64  # Width of the networks of three hidden layers.
    max_num_iterations: int = 400  # Training steps.
    curve_points: int = 20  # How often PSNR is written down on the way.
    seeds: tuple[int, ...] = (42, 43, 44)  # One training of each per seed.
    device: Literal["cpu", "cuda"] = "cpu"  # Where to train.

    def config(self, network: NetworkKind, optimizer: AnyOptimizer) -> ImageConfig:
        """The paper's settings for a network with IGA, at these sizes and under some optimiser."""
        paper = photograph_settings(network)
        return replace(
            paper,
            max_side=self.max_side,
            grouping="patches",
            patch_size=None,  # what comes nearest to the paper's number of patches
            max_num_iterations=self.max_num_iterations,
            steps_per_log=10,
            steps_per_eval=max(self.max_num_iterations // self.curve_points, 1),
            network=replace(paper.network, hidden_dim=self.hidden_dim),
            optimizer=optimizer_settings(optimizer, network),
            machine=MachineConfig(device_type=self.device),
        )

    def training(self, entry: Entry, photograph: str, lr: float, seed: int) -> Training:
        """One training of an entry.

        Raises:
            ValueError: If there is no such photograph.
        """
        path = self.data / f"{photograph}.png"
        if not path.is_file():
            raise ValueError(f"There is no image {path}.")
        config = replace(
            entry.config,
            data=path,
            optimizer=replace(entry.config.optimizer, lr=lr),
            machine=replace(entry.config.machine, seed=seed),
        )
        return Training({"image": photograph, **entry.labels, "lr": lr, "seed": seed}, entry.run, config)

    def judge(
        self, entries: Sequence[Entry], chosen_on: str, judged_on: Sequence[str], train: Train
    ) -> dict[str, list[Outcome]]:
        """Try the rates of every entry on one photograph with the first seed, and judge the best of them on others.

        Returns:
            The trainings that are ``tried``, and those that are ``judged``.
        """
        if not judged_on or not self.seeds:
            raise ValueError("Name at least one image and one seed.")
        to_try = [(entry, lr) for entry in entries if len(entry.rates) > 1 for lr in entry.rates]
        tried = train([self.training(entry, chosen_on, lr, self.seeds[0]) for entry, lr in to_try])
        judged = [
            self.training(entry, photograph, _best_rate(entry, tried), seed)
            for entry, photograph, seed in product(entries, judged_on, self.seeds)
        ]
        return {"tried": tried, "judged": train(judged)}


def _best_rate(entry: Entry, tried: Sequence[Outcome]) -> float:
    """The rate of highest final PSNR; the first of those given if none was tried, or all diverged."""
    own = those(finished(tried), **entry.labels)
    return max(own, key=lambda run: run["psnr"])["lr"] if own else entry.rates[0]


def by_entry(runs: Sequence[Outcome]) -> dict[tuple[Any, ...], list[Outcome]]:
    """Trainings by network, optimiser and variant."""
    return grouped(runs, "network", "optimizer", "variant")
