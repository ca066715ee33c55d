"""How to balance, under which optimiser and schedule: chosen on some photographs, judged on others."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from iga_nerfstudio.benchmark.curves import mean_curve, steps_to_quality
from iga_nerfstudio.benchmark.record import finished
from iga_nerfstudio.benchmark.sweep import Outcome, Training, train_all
from iga_nerfstudio.benchmark.timing import median_ratio, time_alternately
from iga_nerfstudio.networks import NetworkConfig
from iga_nerfstudio.tasks.config import MachineConfig, OptimizerConfig, ScheduleConfig, TaskAdjustmentConfig
from iga_nerfstudio.tasks.image import ImageConfig, load_image_task
from iga_nerfstudio.tasks.task import fit

Network = Literal["relu", "pe", "siren"]
OptimizerKind = Literal["adam", "muon"]
Key = tuple[Network, OptimizerKind, str]

# The paper's numbers of balanced eigenvalues.
PAPER_END: dict[Network, int] = {"relu": 25, "pe": 20, "siren": 20}
# The rate of all ways; half and twice as much are tried for those that are judged.
RATES: dict[OptimizerKind, dict[Network, float]] = {
    "adam": {"relu": 5e-3, "pe": 5e-3, "siren": 2e-3},
    "muon": {"relu": 4e-2, "pe": 2e-2, "siren": 3e-3},
}
OTHER_RATES = (0.5, 2.0)


@dataclass(frozen=True)
class Way:
    """One way to adjust.

    Attributes:
        meaning: In words.
        end_factor: Balanced eigenvalues over the paper's number; None takes that of ``changes``.
        changes: What else it changes in the settings.
        enabled: Whether to adjust at all.
        schedule: How the learning rate falls; if not given, to a tenth at 30 percent of the steps, as in the paper.
        length: Training steps over those of the others.
    """

    meaning: str
    end_factor: float | None = 1.0
    changes: dict[str, Any] = field(default_factory=dict)
    enabled: bool = True
    schedule: ScheduleConfig = field(default_factory=lambda: ScheduleConfig("step"))
    length: float = 1.0

    def settings(self, network: Network) -> TaskAdjustmentConfig:
        """The settings of one training."""
        end = None if self.end_factor is None else round(self.end_factor * PAPER_END[network])
        return replace(TaskAdjustmentConfig(enabled=self.enabled, end=end), **self.changes)


_COSINE = ScheduleConfig("cosine")
_PLAIN = Way("no adjustment", enabled=False)
_PART = Way("the paper's number, 0.7 of the way (on a logarithmic scale)", changes={"power": 0.7})
_PART_COSINE = replace(_PART, meaning="power 0.7, the rate falling to nothing along a cosine", schedule=_COSINE)
WAYS = {
    "plain": _PLAIN,
    "paper": Way("the paper's: its number of eigenvalues, all of the way to the next one, largest residual"),
    "half": Way("half as many eigenvalues", 0.5),
    "twice": Way("twice as many", 2.0),
    "power 0.7": _PART,
    "plain, cosine": replace(
        _PLAIN, meaning="no adjustment, the rate falling to nothing along a cosine", schedule=_COSINE
    ),
    # Under Muon the default comes to this, but for ReLU's number, which it takes to be that of the others.
    "power 0.7, cosine": _PART_COSINE,
    # About as long as plain training where an adjusted step takes two plain ones, as at the smallest sizes.
    "power 0.7, cosine, half": replace(_PART_COSINE, meaning="the same in half of the steps", length=0.5),
    "power 0.5": Way("the paper's number, half of the way", changes={"power": 0.5}),
    "60, power 0.5": Way("60 eigenvalues, half of the way", None, {"end": 60, "power": 0.5}),
    "60, power 0.7": Way("60 eigenvalues, 0.7 of the way", None, {"end": 60, "power": 0.7}),
    "mean of 4": Way(
        "the paper's, by the mean of 4 drawn points", changes={"representative": "mean", "num_representatives": 4}
    ),
    "up": Way("raised to the largest eigenvalue, as under plain gradient descent", changes={"rule": "sgd"}),
}
# Those that are tried at every rate and judged on the held-out photographs.
JUDGED = ("plain", "paper", "power 0.7", "plain, cosine", "power 0.7, cosine", "power 0.7, cosine, half")


@dataclass(frozen=True)
class BalanceSize:
    """What all trainings share.

    Attributes:
        chosen_on: Photographs on which ways and rates are compared.
        held_out: Photographs on which the chosen ones are judged.
        networks: Networks to train.
        seeds: One training of each per seed.
        max_side: Images are shrunk to that many pixels.
        hidden_dim: Width of the networks.
        num_iterations: Training steps.
        curve_points: How often PSNR is written down.
        rounds: Timed rounds of steps.
    """

    chosen_on: tuple[str, ...]
    held_out: tuple[str, ...]
    networks: tuple[Network, ...]
    seeds: tuple[int, ...]
    max_side: int
    hidden_dim: int
    num_iterations: int
    curve_points: int = 50
    rounds: int = 15


SIZES = {
    "smoke": BalanceSize(("kodim01",), ("kodim02",), ("pe",), (42,), 48, 16, 10, 5, 2),
    "cpu": BalanceSize(
        ("kodim01", "kodim03"),
        tuple(f"kodim0{i}" for i in (4, 5, 6, 7, 8)),
        ("relu", "pe", "siren"),
        (42,),
        96,
        64,
        1000,
    ),
    "full": BalanceSize(
        ("kodim01", "kodim02", "kodim03"),
        tuple(f"kodim0{i}" for i in (4, 5, 6, 7, 8)),
        ("relu", "pe", "siren"),
        (42, 43, 44),
        768,
        256,
        10_000,
    ),
}


@dataclass(frozen=True)
class Setting:
    """One training: what distinguishes it from the others."""

    image: str
    network: Network
    optimizer: OptimizerKind
    way: str
    lr: float
    seed: int


def measure_balance(
    data: Path, size: BalanceSize, device: str, runs: Path, jobs: int, tell: Callable[[str], None] = print
) -> dict[str, Any]:
    """Compare all ways on some photographs, then judge some of them, at their best rates, on others.

    Args:
        data: Folder of the images, ``<name>.png``.
        size: What all trainings share.
        device: Where to train.
        runs: Folder of finished trainings; those in it are not repeated.
        jobs: Trainings at once, one CPU thread each.
        tell: Told about every finished training.

    Returns:
        The trainings; every way's mean PSNR on the first photographs; and of the judged ones, on the others, PSNR by
        image, the curve over steps, the cost of a step, and steps and seconds to plain Adam's final PSNR.

    Raises:
        ValueError: If an image is missing.
    """
    for image in (*size.chosen_on, *size.held_out):
        if not (data / f"{image}.png").is_file():
            raise ValueError(f"There is no image {data / image}.png.")

    def train(settings: Iterator[Setting]) -> list[dict[str, Any]]:
        trainings = [
            Training(asdict(s), _train, replace(configure(s, size, device), data=data / f"{s.image}.png"))
            for s in settings
        ]
        return train_all(trainings, runs, jobs, tell)

    tried = train(_compared(size))
    compared = finished(tried)
    rates = {key: _best_rate(*key, size.chosen_on[0], compared) for key in _cells(size)}
    held_out = train(
        Setting(image, network, optimizer, way, rate, seed)
        for (network, optimizer, way), rate in rates.items()
        for image in size.held_out
        for seed in size.seeds
    )
    judged = finished(held_out)
    costs = {network: _step_costs(data, network, size, device) for network in size.networks}
    return {
        **asdict(size),
        "device": device,
        "compared": tried,
        "judged": held_out,
        "ways": [_mean(*key, compared) for key in _compared_ways(size)],
        "cells": [_cell(*key, rate, judged, costs[key[0]]) for key, rate in rates.items()],
    }


def _cells(size: BalanceSize) -> Iterator[Key]:
    """The cells of the grid."""
    return ((network, optimizer, way) for network in size.networks for optimizer in RATES for way in JUDGED)


def _compared_ways(size: BalanceSize) -> Iterator[Key]:
    """What is compared at one rate: all ways under Muon, those that are judged under Adam too."""
    for way in WAYS:
        for network in size.networks:
            for optimizer in RATES:
                if optimizer == "muon" or way in JUDGED:
                    yield network, optimizer, way


def _compared(size: BalanceSize) -> Iterator[Setting]:
    """The trainings on the photographs to choose on; other rates on the first of them."""
    for seed in size.seeds:
        for network, optimizer, way in _compared_ways(size):
            rate = RATES[optimizer][network]
            for image in size.chosen_on:
                yield Setting(image, network, optimizer, way, rate, seed)
            for factor in OTHER_RATES if way in JUDGED else ():
                yield Setting(size.chosen_on[0], network, optimizer, way, factor * rate, seed)


def configure(setting: Setting, size: BalanceSize, device: str) -> ImageConfig:
    """The settings of one training."""
    way = WAYS[setting.way]
    return ImageConfig(
        max_side=size.max_side,
        max_num_iterations=max(round(way.length * size.num_iterations), 1),
        steps_per_eval=max(size.num_iterations // size.curve_points, 1),
        network=NetworkConfig(setting.network, size.hidden_dim),
        adjustment=way.settings(setting.network),
        optimizer=OptimizerConfig(setting.optimizer, setting.lr),
        schedule=way.schedule,
        machine=MachineConfig(setting.seed, "cuda" if device == "cuda" else "cpu"),
    )


def _train(config: ImageConfig) -> Outcome:
    """Train once; PSNR on the way."""
    steps, values = fit(load_image_task(config)).record.evaluations["psnr"]
    curve = [{"step": step, "psnr": round(value, 4)} for step, value in zip(steps, values, strict=True)]
    return {"psnr": values[-1], "curve": curve}


def _step_costs(data: Path, network: Network, size: BalanceSize, device: str) -> dict[tuple[OptimizerKind, str], float]:
    """Seconds of a step over those of plain Adam's, timed alternately."""

    def step(optimizer: OptimizerKind, way: str) -> Callable[[], None]:
        setting = Setting(size.held_out[0], network, optimizer, way, 1e-4, 0)
        config = replace(configure(setting, size, device), data=data / f"{setting.image}.png")
        return load_image_task(config).trainer().step

    keys: list[tuple[OptimizerKind, str]] = [(optimizer, way) for optimizer in RATES for way in JUDGED]
    seconds = time_alternately({str(key): step(*key) for key in keys}, size.rounds, warmup=3)
    return {key: median_ratio(seconds[str(key)], seconds[str(("adam", "plain"))]) for key in keys}


def _of(network: Network, optimizer: OptimizerKind, way: str, outcomes: list[Outcome]) -> list[Outcome]:
    key = (network, optimizer, way)
    return [run for run in outcomes if (run["network"], run["optimizer"], run["way"]) == key]


def _best_rate(network: Network, optimizer: OptimizerKind, way: str, image: str, outcomes: list[Outcome]) -> float:
    """The rate of highest mean PSNR over the seeds, on the photograph where all rates are tried."""
    by_rate: dict[float, list[float]] = {}
    for run in _of(network, optimizer, way, outcomes):
        if run["image"] == image:
            by_rate.setdefault(run["lr"], []).append(run["psnr"])
    return max(by_rate, key=lambda rate: statistics.mean(by_rate[rate]))


def _mean(network: Network, optimizer: OptimizerKind, way: str, outcomes: list[Outcome]) -> dict[str, Any]:
    """PSNR of a way at the rate of all ways."""
    own = [run for run in _of(network, optimizer, way, outcomes) if run["lr"] == RATES[optimizer][network]]
    return {
        "network": network,
        "optimizer": optimizer,
        "way": way,
        "psnr": statistics.mean(run["psnr"] for run in own),
    }


def _cell(
    network: Network,
    optimizer: OptimizerKind,
    way: str,
    rate: float,
    outcomes: list[Outcome],
    costs: dict[tuple[OptimizerKind, str], float],
) -> dict[str, Any]:
    """One cell of the grid on the held-out photographs."""
    own, reference = _of(network, optimizer, way, outcomes), _of(network, "adam", "plain", outcomes)
    images = list(dict.fromkeys(run["image"] for run in own))
    curve, base = mean_curve(own), mean_curve(reference)
    cost = costs[optimizer, way]
    steps = steps_to_quality(curve, base[-1][1])
    return {
        "network": network,
        "optimizer": optimizer,
        "way": way,
        "lr": rate,
        "psnr": curve[-1][1],
        "psnr_of_images": {
            image: statistics.mean(run["psnr"] for run in own if run["image"] == image) for image in images
        },
        "step_cost": cost,
        "psnr_at_equal_seconds": psnr_at(curve, base[-1][0] / cost),
        "steps_to_quality": None if steps is None else steps / base[-1][0],
        "seconds_to_quality": None if steps is None else steps * cost / base[-1][0],
        "curve": curve,
    }


def psnr_at(curve: list[tuple[int, float]], step: float) -> float:
    """PSNR of a learning curve at a step, interpolated between its points; that of its end beyond.

    Args:
        curve: Steps and PSNR.
        step: Where.
    """
    for (before, lower), (after, upper) in pairwise(curve):
        if step < after:
            return lower + (upper - lower) * (step - before) / (after - before)
    return curve[-1][1]
