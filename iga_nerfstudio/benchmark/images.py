"""Every network on some photographs: plain, with IGA, and with the baselines FR and BN, under Adam and under Muon."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from iga_nerfstudio.benchmark.record import finished
from iga_nerfstudio.benchmark.sweep import Outcome, Training, train_all
from iga_nerfstudio.networks import FourierReparameterisation, NetworkConfig
from iga_nerfstudio.networks.builder import NetworkKind
from iga_nerfstudio.tasks.config import MachineConfig, OptimizerConfig, ScheduleConfig, TaskAdjustmentConfig
from iga_nerfstudio.tasks.image import ImageConfig, load_image_task
from iga_nerfstudio.tasks.task import fit

if TYPE_CHECKING:  # every training's process would load nerfstudio for a name
    from iga_nerfstudio.benchmark.workloads import Device

Variant = Literal["plain", "iga", "iga_mean", "fr", "bn"]
OptimizerKind = Literal["adam", "muon"]

# Networks of the paper, and the baselines that it defines for each.
NETWORKS: dict[NetworkKind, tuple[Variant, ...]] = {
    "relu": ("plain", "iga", "fr", "bn"),
    "pe": ("plain", "iga", "iga_mean", "fr", "bn"),
    "siren": ("plain", "iga", "iga_mean", "fr"),
    "gauss_finer": ("plain", "iga"),
    "wire_finer": ("plain", "iga"),
    "finer": ("plain", "iga"),
}
# Balanced eigenvalues, as in the paper.
_END = {"relu": 25, "finer": 15}
# Learning rates tried, for networks of ReLUs and for the others.
_RATES: dict[OptimizerKind, tuple[tuple[float, float], tuple[float, float]]] = {
    "adam": ((5e-3, 1e-2), (1e-3, 3e-3)),
    "muon": ((2e-2, 4e-2), (3e-3, 6e-3)),
}
# Adam's learning rate in the paper: 1e-3, but for these. It adjusts networks of sines at their own rate.
_PAPER_RATES: dict[tuple[NetworkKind, Variant], float] = {
    ("relu", "iga"): 5e-3,
    ("relu", "iga_mean"): 5e-3,
    ("relu", "fr"): 5e-3,
    ("pe", "iga"): 5e-3,
    ("pe", "iga_mean"): 5e-3,
    ("pe", "bn"): 3e-3,
}
# Metrics whose means over the images are reported.
_METRICS = ("psnr", "best_psnr", "ssim", "ms_ssim", "lpips", "lpips_unscaled")


@dataclass(frozen=True)
class Setting:
    """One training: what distinguishes it from the others."""

    image: str
    network: NetworkKind
    variant: Variant
    optimizer: OptimizerKind
    lr: float


@dataclass(frozen=True)
class ImagesSize:
    """What is trained, and what all trainings share.

    Attributes:
        images: Names of the images.
        max_side: Images are shrunk to that many pixels.
        hidden_dim: Width of the networks of three hidden layers.
        num_iterations: Training steps.
        networks: Networks to train.
        variants: What to train of plain, IGA (largest residual, or mean of 4 points), FR and BN, where defined.
        optimizers: Optimisers to train with.
        paper_rates: Under Adam train at the paper's learning rates. Otherwise, and under Muon, of which the paper has
            none, several are tried on the first image, and the others are trained at the best.
        seed: Seed of the networks.
        device: Where to train.
        lpips_backbone: AlexNet weights for LPIPS; torch's cache, or a download, if not given.
    """

    images: tuple[str, ...]
    max_side: int
    hidden_dim: int
    num_iterations: int
    networks: tuple[NetworkKind, ...] = tuple(NETWORKS)
    variants: tuple[Variant, ...] = ("plain", "iga", "iga_mean", "fr", "bn")
    optimizers: tuple[OptimizerKind, ...] = ("adam", "muon")
    paper_rates: bool = False
    seed: int = 42
    device: Device = "cpu"
    lpips_backbone: str | None = None


_PAPER_VARIANTS: tuple[Variant, ...] = ("plain", "iga", "fr", "bn")
SIZES = {
    "smoke": ImagesSize(("kodim01",), 32, 16, 10, ("relu", "pe", "siren"), _PAPER_VARIANTS, ("adam",), True),
    "cpu": ImagesSize(("kodim01", "kodim02", "kodim03"), 192, 64, 1500),
    "full": ImagesSize(
        tuple(f"kodim0{i}" for i in range(1, 9)),
        768,
        256,
        10_000,
        variants=_PAPER_VARIANTS,
        optimizers=("adam",),
        paper_rates=True,
    ),
}


def measure_images(
    data: Path, size: ImagesSize, runs: Path, jobs: int, tell: Callable[[str], None] = print
) -> dict[str, Any]:
    """Fit every image in every way; learning rates that are not the paper's are chosen on the first, by final PSNR.

    Args:
        data: Folder of the images, ``<name>.png``.
        size: What is trained, and what all trainings share.
        runs: Folder of finished trainings; those in it are not repeated.
        jobs: Trainings at once, one thread each.
        tell: Told about every finished training.

    Returns:
        The trainings, and means over images at the chosen rates.

    Raises:
        ValueError: If an image is missing, or there is none.
    """
    if not size.images:
        raise ValueError("Name at least one image.")
    for image in size.images:
        if not (data / f"{image}.png").is_file():
            raise ValueError(f"There is no image {data / image}.png.")
    tried = [
        Setting(size.images[0], network, variant, optimizer, rate)
        for network in size.networks
        for optimizer in size.optimizers
        for variant in NETWORKS[network]
        if variant in size.variants
        for rate in _rates(network, variant, optimizer, size.paper_rates)
    ]
    first = _train_all(tried, data, size, runs, jobs, tell)
    chosen = _better_rates(finished(first))
    others = [replace(setting, image=image) for image in size.images[1:] for setting in chosen]
    records = first + _train_all(others, data, size, runs, jobs, tell)
    kept = [run for run in finished(records) if replace(_setting(run), image=size.images[0]) in chosen]
    return {**asdict(size), "trainings": records, "means": _means(kept)}


def _rates(network: NetworkKind, variant: Variant, optimizer: OptimizerKind, paper: bool) -> tuple[float, ...]:
    """Learning rates to try. FR also gets a far smaller one: its many bases multiply every step."""
    if paper and optimizer == "adam":
        return (_PAPER_RATES.get((network, variant), 1e-3),)
    rates = _RATES[optimizer][network not in ("relu", "pe")]
    return (rates[0] / 5, *rates) if variant == "fr" else rates


def _train_all(
    settings: list[Setting], data: Path, size: ImagesSize, runs: Path, jobs: int, tell: Callable[[str], None]
) -> list[dict[str, Any]]:
    trainings = [
        Training(asdict(setting), _train, replace(configure(setting, size), data=data / f"{setting.image}.png"))
        for setting in settings
    ]
    return train_all(trainings, runs, jobs, tell)


def _train(config: ImageConfig) -> Outcome:
    """Train once; metrics."""
    fitted = fit(load_image_task(config))
    return fitted.metrics | {
        "best_psnr": fitted.best_metrics["psnr"],
        "milliseconds_per_step": 1000 * fitted.record.seconds / fitted.record.steps,
    }


def configure(setting: Setting, size: ImagesSize) -> ImageConfig:
    """The settings of one training."""
    network = NetworkConfig(
        setting.network,
        size.hidden_dim,
        fourier_reparameterisation=FourierReparameterisation(enabled=setting.variant == "fr"),
        batch_norm=setting.variant == "bn",
    )
    adjustment = TaskAdjustmentConfig(enabled=setting.variant in ("iga", "iga_mean"), end=_END.get(setting.network, 20))
    if setting.variant == "iga_mean":
        adjustment = replace(adjustment, representative="mean", num_representatives=4)
    return ImageConfig(
        max_side=size.max_side,
        lpips_backbone=None if size.lpips_backbone is None else Path(size.lpips_backbone),
        lpips_parity=True,
        max_num_iterations=size.num_iterations,
        steps_per_eval=max(size.num_iterations // 10, 1),
        network=network,
        adjustment=adjustment,
        optimizer=OptimizerConfig(setting.optimizer, setting.lr),
        schedule=ScheduleConfig("step"),
        machine=MachineConfig(seed=size.seed, device_type=size.device),
    )


def _setting(run: dict[str, Any]) -> Setting:
    return Setting(run["image"], run["network"], run["variant"], run["optimizer"], run["lr"])


def _better_rates(runs: list[dict[str, Any]]) -> list[Setting]:
    """Of each network, variant and optimiser the setting with the higher final PSNR."""
    best: dict[tuple[str, ...], dict[str, Any]] = {}
    for run in runs:
        key = (run["network"], run["variant"], run["optimizer"])
        if key not in best or run["psnr"] > best[key]["psnr"]:
            best[key] = run
    return [_setting(run) for run in best.values()]


def _means(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean metrics over images of each network, variant and optimiser: those that all of its images have."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for run in runs:
        groups.setdefault((run["network"], run["optimizer"], run["variant"]), []).append(run)
    return [
        {
            "network": network,
            "optimizer": optimizer,
            "variant": variant,
            "lr": members[0]["lr"],
            **{
                metric: statistics.mean(run[metric] for run in members)
                for metric in _METRICS
                if all(metric in run for run in members)
            },
        }
        for (network, optimizer, variant), members in groups.items()
    ]
