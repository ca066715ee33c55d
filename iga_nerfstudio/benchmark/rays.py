"""What the kernel of a batch of rays should be of: a small NeRF trained with every choice, over several seeds."""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from nerfstudio.engine.trainer import TrainerConfig

from iga_nerfstudio.benchmark.curves import mean_curve, steps_to_quality
from iga_nerfstudio.benchmark.nerf_training import NerfTraining
from iga_nerfstudio.benchmark.rays_variants import COARSE, RATES, VARIANTS, OptimizerKind, VariantName
from iga_nerfstudio.benchmark.record import finished
from iga_nerfstudio.benchmark.sweep import Outcome, Training, train_all
from iga_nerfstudio.benchmark.timing import median_ratio, time_alternately
from iga_nerfstudio.nerf.method_configs import iga_nerf_muon, iga_nerf_tiny
from iga_nerfstudio.nerf.schedulers import PowerDecaySchedulerConfig

# What is trained at every rate.
_AT_ALL_RATES: tuple[VariantName, ...] = ("plain", "heaviest")


@dataclass(frozen=True)
class RaysSize:
    """What all trainings share.

    Attributes:
        downscale_factor: Images are shrunk by it.
        test_skip: Every that many test views.
        num_rays: Rays of a step.
        num_layers: Layers of each field's trunk.
        hidden_dim: Their width.
        num_iterations: Training steps; the learning rate falls to 3 percent over them.
        curve_points: How often the test views are rendered.
    """

    downscale_factor: int
    test_skip: int
    num_rays: int
    num_layers: int
    hidden_dim: int
    num_iterations: int
    curve_points: int


@dataclass(frozen=True)
class Setting:
    """One training: what distinguishes it from the others."""

    variant: VariantName
    optimizer: OptimizerKind
    lr: float
    seed: int


def measure_rays(
    scene: Path,
    variants: tuple[VariantName, ...],
    optimizers: tuple[OptimizerKind, ...],
    seeds: tuple[int, ...],
    size: RaysSize,
    rounds: int,
    runs: Path,
    jobs: int,
    tell: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Train every variant under every optimiser, and time their steps against the plain one's.

    Args:
        scene: A Blender scene.
        variants: What to train; plain always is.
        optimizers: Optimisers to train with.
        seeds: One training of each per seed.
        size: What all trainings share.
        rounds: Timed rounds of steps.
        runs: Folder of finished trainings; those in it are not repeated.
        jobs: Trainings at once, one thread each.
        tell: Told about every finished training.

    Returns:
        The trainings; for each variant and optimiser means over the seeds, gains over plain, and steps and seconds to
        plain's final quality as fractions of plain's.

    Raises:
        ValueError: If there is no seed or no optimiser.
    """
    if not seeds or not optimizers:
        raise ValueError("Name at least one seed and one optimizer.")
    variants = ("plain", *(variant for variant in variants if variant != "plain"))
    settings = [
        Setting(variant, optimizer, RATES[optimizer][0], seed)
        for seed in seeds
        for optimizer in optimizers
        for variant in variants
    ]
    settings += [
        Setting(variant, optimizer, lr, seeds[0])
        for optimizer in optimizers
        for lr in RATES[optimizer][1:]
        for variant in _AT_ALL_RATES
        if variant in variants
    ]
    trainings = [
        Training(
            asdict(setting),
            _train,
            {
                "config": configure(scene, setting, size),
                "seed": setting.seed,
                "num_iterations": size.num_iterations,
                "curve_points": size.curve_points,
            },
        )
        for setting in settings
    ]
    records = train_all(trainings, runs, jobs, tell)
    found = finished(records)
    costs = _step_costs(scene, variants, optimizers[0], size, rounds)
    return {
        "scene": scene.name,
        **asdict(size),
        "seeds": list(seeds),
        "trainings": records,
        "step_costs": costs,
        "summaries": [_summary(variant, optimizer, found, costs) for optimizer in optimizers for variant in variants],
    }


def configure(scene: Path, setting: Setting, size: RaysSize) -> TrainerConfig:
    """The settings of one training, as ``ns-train`` would have them."""
    config: Any = copy.deepcopy(iga_nerf_tiny.config)
    data, model = config.pipeline.datamanager, config.pipeline.model
    data.data = scene
    data.dataparser.downscale_factor, data.dataparser.test_skip = size.downscale_factor, size.test_skip
    data.train_num_rays_per_batch = data.eval_num_rays_per_batch = size.num_rays
    model.num_coarse_samples = model.num_importance_samples = COARSE
    model.num_layers, model.hidden_dim = size.num_layers, size.hidden_dim
    model.adjustment = replace(model.adjustment, **VARIANTS[setting.variant])
    source = {"adam": iga_nerf_tiny, "muon": iga_nerf_muon}[setting.optimizer].config
    optimizer = replace(source.optimizers["fields"]["optimizer"], lr=setting.lr)
    schedule = PowerDecaySchedulerConfig(decay_rate=0.03, decay_steps=size.num_iterations)
    config.optimizers = {"fields": {"optimizer": optimizer, "scheduler": schedule}}
    result: TrainerConfig = config
    return result


def _train(settings: dict[str, Any]) -> Outcome:
    """Train once; test PSNR on the way and after the last step."""
    training = NerfTraining(settings["config"], "cpu", settings["seed"])
    steps = settings["num_iterations"]
    between = max(steps // settings["curve_points"], 1)
    curve = []
    views: list[float] = []
    while training.count < steps:
        training.step()
        if training.count % between == 0 or training.count == steps:
            views = training.psnr_of_views()
            curve.append({"step": training.count, "psnr": statistics.mean(views)})
    return {
        "psnr": statistics.mean(views),
        "median_psnr": statistics.median(views),
        "psnr_of_views": [round(view, 2) for view in views],
        "steps_unadjusted": training.pipeline.model.adjuster.diagnostics.steps_unadjusted,
        "curve": curve,
    }


def _step_costs(
    scene: Path, variants: tuple[VariantName, ...], optimizer: OptimizerKind, size: RaysSize, rounds: int
) -> dict[VariantName, float]:
    """Seconds of a step of each variant over those of a plain one, timed alternately."""
    steps: dict[str, Callable[[], object]] = {
        variant: NerfTraining(configure(scene, Setting(variant, optimizer, 1e-3, 0), size), "cpu", 0).step
        for variant in variants
    }
    seconds = time_alternately(steps, rounds, warmup=3)
    return {variant: median_ratio(seconds[variant], seconds["plain"]) for variant in variants}


def _summary(
    variant: VariantName, optimizer: OptimizerKind, outcomes: list[dict[str, Any]], costs: dict[VariantName, float]
) -> dict[str, Any]:
    """One variant under one optimiser: means over seeds, and how they compare with plain training."""
    own, plain = (_of(name, optimizer, outcomes) for name in (variant, "plain"))
    gains = [ours["psnr"] - theirs["psnr"] for ours, theirs in zip(own, plain, strict=True)]
    medians = [ours["median_psnr"] - theirs["median_psnr"] for ours, theirs in zip(own, plain, strict=True)]
    steps = steps_to_quality(mean_curve(own), mean_curve(plain)[-1][1])
    fraction = None if steps is None else steps / mean_curve(plain)[-1][0]
    return {
        "variant": variant,
        "optimizer": optimizer,
        "psnr": statistics.mean(run["psnr"] for run in own),
        "gains": gains,
        "mean_gain": statistics.mean(gains),
        "mean_gain_of_median_view": statistics.mean(medians),
        "step_cost": costs[variant],
        "steps_to_quality": fraction,
        "seconds_to_quality": None if fraction is None else fraction * costs[variant],
    }


def _of(variant: VariantName, optimizer: OptimizerKind, outcomes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A variant's trainings at the rate that all share, one per seed."""
    key = (variant, optimizer, RATES[optimizer][0])
    return [run for run in outcomes if (run["variant"], run["optimizer"], run["lr"]) == key]
