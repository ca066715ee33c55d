"""The paper's ablations on photographs: who stands for a group (Table 6), and how large groups are (Table 7)."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from iga_nerfstudio.benchmark.record import finished
from iga_nerfstudio.benchmark.sweep import Outcome, Training, train_all
from iga_nerfstudio.networks import NetworkConfig
from iga_nerfstudio.tasks.config import MachineConfig, OptimizerConfig, ScheduleConfig, TaskAdjustmentConfig
from iga_nerfstudio.tasks.image import ImageConfig, load_image_task
from iga_nerfstudio.tasks.task import fit

if TYPE_CHECKING:  # every training's process would load nerfstudio for a name
    from iga_nerfstudio.benchmark.workloads import Device

Network = Literal["relu", "pe", "siren"]

# Balanced eigenvalues and Adam's learning rate, as in the paper: with the adjustment, and without.
_END: dict[Network, int] = {"relu": 25, "pe": 20, "siren": 20}
_RATES: dict[Network, tuple[float, float]] = {"relu": (5e-3, 1e-3), "pe": (5e-3, 1e-3), "siren": (1e-3, 1e-3)}


@dataclass(frozen=True)
class Case:
    """One row of a table.

    Attributes:
        representative: Who stands for a group; None is plain training.
        num_representatives: Points per group.
        patch_factor: Side of a patch over the size's own.
    """

    representative: str | None = "largest_residual"
    num_representatives: int = 1
    patch_factor: float = 1.0


CASES = {
    "plain": Case(None),
    # The same at the learning rate that the adjusted ones have.
    "plain, rate of IGA": Case(None),
    "largest residual": Case(),
    "random once": Case("random_once"),
    "random each step": Case("random"),
    "middle": Case("middle"),
    "mean of 2": Case("mean", 2),
    "mean of 4": Case("mean", 4),
    "mean of 8": Case("mean", 8),
    # What the authors' code does where the paper says largest residual.
    "all maxima": Case("all_maxima"),
    "patches half as large": Case(patch_factor=0.5),
    "patches twice as large": Case(patch_factor=2.0),
    "patches four times as large": Case(patch_factor=4.0),
}


@dataclass(frozen=True)
class AblationSize:
    """What all trainings share.

    Attributes:
        images: Names of the images.
        max_side: Images are shrunk to that many pixels.
        patch_size: Side of a patch in pixels.
        hidden_dim: Width of the networks.
        num_iterations: Training steps.
        seed: Seed of the networks.
        device: Where to train.
    """

    images: tuple[str, ...]
    max_side: int
    patch_size: int
    hidden_dim: int
    num_iterations: int
    seed: int = 42
    device: Device = "cpu"


SIZES = {
    "smoke": AblationSize(("kodim01",), 32, 4, 16, 10),
    "cpu": AblationSize(("kodim01", "kodim02", "kodim03"), 96, 4, 64, 500),
    "full": AblationSize(("kodim01", "kodim02", "kodim03"), 768, 32, 256, 10_000),
}


def measure_ablations(
    data: Path, size: AblationSize, runs: Path, jobs: int, tell: Callable[[str], None] = print
) -> dict[str, Any]:
    """Fit every image in every case.

    Args:
        data: Folder of the images, ``<name>.png``.
        size: What all trainings share.
        runs: Folder of finished trainings; those in it are not repeated.
        jobs: Trainings at once, one thread each.
        tell: Told about every finished training.

    Returns:
        The trainings, and every case's mean PSNR over the images by network.

    Raises:
        ValueError: If an image is missing.
    """
    for image in size.images:
        if not (data / f"{image}.png").is_file():
            raise ValueError(f"There is no image {data / image}.png.")
    trainings = [
        Training(
            {"image": image, "network": network, "case": case},
            _train,
            replace(configure(network, case, size), data=data / f"{image}.png"),
        )
        for case in CASES
        for network in _END
        if not (case == "plain, rate of IGA" and len(set(_RATES[network])) == 1)
        if _groups_suffice(case, network, size)
        for image in size.images
    ]
    records = train_all(trainings, runs, jobs, tell)
    found = finished(records)
    means = {
        case: {
            network: statistics.mean(psnr)
            for network in _END
            if (psnr := [run["psnr"] for run in found if (run["case"], run["network"]) == (case, network)])
        }
        for case in CASES
    }
    return {**asdict(size), "trainings": records, "means": means}


def _patch_size(case: str, size: AblationSize) -> int:
    return max(int(size.patch_size * CASES[case].patch_factor), 1)


def _groups_suffice(case: str, network: Network, size: AblationSize) -> bool:
    """Whether photographs of 3:2 have more patches than eigenvalues are balanced."""
    patch = _patch_size(case, size)
    return (size.max_side // patch) * (2 * size.max_side // 3 // patch) > _END[network]


def configure(network: Network, case: str, size: AblationSize) -> ImageConfig:
    """The settings of one training."""
    chosen = CASES[case]
    adjustment = TaskAdjustmentConfig(enabled=chosen.representative is not None, end=_END[network])
    if chosen.representative is not None:
        adjustment = replace(
            adjustment,
            representative=cast(Any, chosen.representative),
            num_representatives=chosen.num_representatives,
        )
    rate = _RATES[network][case == "plain"]
    return ImageConfig(
        max_side=size.max_side,
        patch_size=_patch_size(case, size),
        max_num_iterations=size.num_iterations,
        steps_per_eval=size.num_iterations,
        network=NetworkConfig(network, size.hidden_dim),
        adjustment=adjustment,
        optimizer=OptimizerConfig("adam", rate),
        schedule=ScheduleConfig("step"),
        machine=MachineConfig(seed=size.seed, device_type=size.device),
    )


def _train(config: ImageConfig) -> Outcome:
    """Train once; the final PSNR."""
    fitted = fit(load_image_task(config))
    return {"psnr": fitted.record.evaluations["psnr"][1][-1], "best_psnr": fitted.best_metrics["psnr"]}
