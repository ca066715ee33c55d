"""The paper's second experiment: six tones, and more and more balanced eigenvalues, in groups of several sizes."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from iga_nerfstudio.benchmark.record import finished
from iga_nerfstudio.benchmark.sweep import Outcome, Training, train_all
from iga_nerfstudio.tasks.config import MachineConfig, OptimizerConfig
from iga_nerfstudio.tasks.config_files import read_preset
from iga_nerfstudio.tasks.signal import SignalConfig, load_signal_task

Network = Literal["relu", "siren"]

_NETWORKS: tuple[Network, ...] = ("relu", "siren")


@dataclass(frozen=True)
class Experiment2Size:
    """How large the experiment is.

    Attributes:
        ends: Last balanced eigenvalues; plain training (0) is always there.
        group_sizes: Samples per group, p; 1 is the eNTK of all samples.
        seeds: One training of each per seed.
        num_samples: Samples of the signal, N.
        hidden_dim: Width of the networks of four hidden layers.
        num_iterations: Training steps.
        lr: Adam's learning rate, fixed.
        curve_points: How often DFT errors are written down.
    """

    ends: tuple[int, ...]
    group_sizes: tuple[int, ...]
    seeds: tuple[int, ...]
    num_samples: int = 2048
    hidden_dim: int = 256
    num_iterations: int = 10_000
    lr: float = 5e-5
    curve_points: int = 50


SIZES = {
    "smoke": Experiment2Size((3,), (8,), (0,), 256, 24, 60, 1e-3, 6),
    "cpu": Experiment2Size((1, 3, 5, 7), (1, 4, 8), (0, 1, 2), 512, 128, 2000, 3e-4),
    "full": Experiment2Size((1, 2, 3, 4, 5, 6, 7), (1, 4, 8), tuple(range(10))),
}


def measure_experiment2(
    size: Experiment2Size, runs: Path, jobs: int, tell: Callable[[str], None] = print
) -> dict[str, Any]:
    """Train both networks with every number of balanced eigenvalues.

    Args:
        size: How large the experiment is.
        runs: Folder of finished trainings; those in it are not repeated.
        jobs: Trainings at once, one thread each.
        tell: Told about every finished training.

    Returns:
        The trainings' curves of DFT errors, and the final errors as means over seeds.
    """
    cases = [
        (network, group_size, end, seed)
        for seed in size.seeds
        for network in _NETWORKS
        for group_size, end in [(1, 0), *((p, end) for p in size.group_sizes for end in size.ends)]
    ]
    trainings = [
        Training(
            {"network": network, "group_size": group_size, "end": end, "seed": seed},
            _train,
            configure(network, group_size, end, seed, size),
        )
        for network, group_size, end, seed in cases
    ]
    records = train_all(trainings, runs, jobs, tell)
    return {**asdict(size), "trainings": records, "means": _means(finished(records))}


def configure(network: Network, group_size: int, end: int, seed: int, size: Experiment2Size) -> SignalConfig:
    """The paper's preset at another size."""
    preset = read_preset(f"experiment2_{network}", SignalConfig)
    return replace(
        preset,
        num_samples=size.num_samples,
        max_num_iterations=size.num_iterations,
        steps_per_eval=max(size.num_iterations // size.curve_points, 1),
        interval_size=group_size,
        network=replace(preset.network, hidden_dim=size.hidden_dim),
        adjustment=replace(preset.adjustment, enabled=end > 0, end=end),
        optimizer=OptimizerConfig("adam", size.lr),
        machine=MachineConfig(seed, "cpu"),
        vis="none",
    )


def _train(config: SignalConfig) -> Outcome:
    """Train once; the curve of every tone's error."""
    record = load_signal_task(config).trainer().train()
    prefix = "dft_error/"
    tones = {name.removeprefix(prefix): c for name, c in record.evaluations.items() if name.startswith(prefix)}
    return {
        "psnr": record.evaluations["psnr"][1][-1],
        "steps": next(iter(tones.values()))[0],
        "errors": {tone: values for tone, (_steps, values) in tones.items()},
    }


def _means(outcomes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Final errors of every tone, means over seeds, of each network, group size and end."""
    groups: dict[tuple[str, int, int], list[dict[str, Any]]] = {}
    for run in outcomes:
        groups.setdefault((run["network"], run["group_size"], run["end"]), []).append(run)
    return [
        {
            "network": network,
            "group_size": group_size,
            "end": end,
            "psnr": statistics.mean(run["psnr"] for run in members),
            "errors": {
                tone: statistics.mean(run["errors"][tone][-1] for run in members) for tone in members[0]["errors"]
            },
        }
        for (network, group_size, end), members in groups.items()
    ]
