"""A scene trained with and without the adjustment, everything else equal: how the gain is measured."""

from __future__ import annotations

import shutil
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from iga_nerfstudio.benchmark.peers import scene_options
from iga_nerfstudio.devices import default_device
from iga_nerfstudio.nerf.commands import evaluate, read_test_views, train

METRICS = ("psnr", "ssim", "lpips", "coarse_psnr")


@dataclass(frozen=True)
class NerfPairSize:
    """What is trained, and how it is evaluated.

    Attributes:
        method: The paper's NeRF, or a small one.
        num_iterations: Training steps.
        decay_steps: Steps over which the learning rate falls to a tenth; those of the training if not given.
        downscale_factor: Image shrinking.
        test_skip: Every that many test views.
        seeds: One pair of trainings per seed.
    """

    method: Literal["iga-nerf", "iga-nerf-tiny"]
    num_iterations: int
    decay_steps: int | None = None
    downscale_factor: int = 1
    test_skip: int = 1
    seeds: tuple[int, ...] = (42,)


SIZES = {
    "smoke": NerfPairSize("iga-nerf-tiny", 5),
    "cpu": NerfPairSize("iga-nerf-tiny", 3000),
    "full": NerfPairSize("iga-nerf", 200_000, 250_000, 2, 8),
}


def measure_nerf_pair(data: Path, size: NerfPairSize, runs: Path) -> dict[str, Any]:
    """Train pairs with ns-train and evaluate them with ns-eval.

    A finished run is not trained again, so an interrupted measurement goes on where it stopped.

    Args:
        data: A Blender scene; ``iga-nerf`` has the paper's settings of those that it trained on.
        size: What is trained, and how it is evaluated.
        runs: Folder of the runs.

    Returns:
        Every run's metrics, and the gains: of the mean over views, and of the median view.

    Raises:
        ValueError: If there is no such scene, or no seed.
        CommandError: If a run fails.
    """
    if not size.seeds:
        raise ValueError("Name at least one seed.")
    if not (data / "transforms_train.json").is_file():
        raise ValueError(f"There is no scene {data}: a folder with transforms_train.json and its kin.")
    results: list[dict[str, Any]] = []
    for seed in size.seeds:
        for enabled in (False, True):
            folder = runs / data.name / size.method / _name_of_run(size, seed, enabled)
            if not (folder / "eval.json").exists():
                shutil.rmtree(folder, ignore_errors=True)  # a training that was interrupted
                train(*command_of_run(data, size, seed, enabled, runs), log=folder.with_name(f"{folder.name}.log"))
            metrics = evaluate(folder)
            views = [float(-10 * np.log10(np.mean((truth - fine) ** 2))) for truth, fine in read_test_views(folder)]
            results.append(
                {"seed": seed, "adjusted": enabled}
                | {name: metrics[name] for name in METRICS if name in metrics}
                # One floater before one camera can outweigh all other views in the mean.
                | {"median_psnr": statistics.median(views), "psnr_of_views": [round(view, 2) for view in views]}
            )
    summary = {}
    for statistic in ("psnr", "median_psnr"):
        plain, adjusted = (
            statistics.mean(run[statistic] for run in results if run["adjusted"] is flag) for flag in (False, True)
        )
        summary[statistic] = {"plain": plain, "adjusted": adjusted, "gain": adjusted - plain}
    return {
        "scene": data.name,
        **asdict(size),
        "runs": results,
        "mean_over_seeds": summary,
    }


def _name_of_run(size: NerfPairSize, seed: int, enabled: bool) -> str:
    """What tells a run from others of the same scene and method."""
    kind = "iga" if enabled else "plain"
    return f"{kind}-{seed}-{size.num_iterations}-{size.downscale_factor}x-skip{size.test_skip}"


def command_of_run(
    data: Path, size: NerfPairSize, seed: int, enabled: bool, runs: Path
) -> tuple[str, dict[str, object], tuple[object, ...]]:
    """How ns-train is called for one run.

    Args:
        data: A Blender scene.
        size: What is trained, and how it is evaluated.
        seed: Seed of the run.
        enabled: Whether the gradient is adjusted.
        runs: Folder of the runs.

    Returns:
        The method, its options, and the data parser's name and options.
    """
    settings: dict[str, object] = {
        "--data": data,
        "--output-dir": runs,
        "--experiment-name": data.name,
        "--timestamp": _name_of_run(size, seed, enabled),
        "--machine.seed": seed,
        "--machine.device-type": default_device(),
        "--max-num-iterations": size.num_iterations,
        "--steps-per-save": size.num_iterations,
        "--steps-per-eval-image": 10 * size.num_iterations,
        "--steps-per-eval-batch": 10 * size.num_iterations,
        "--vis": "tensorboard",
        "--pipeline.model.adjustment.enabled": enabled,
        "--optimizers.fields.scheduler.decay-steps": size.decay_steps or size.num_iterations,
    }
    settings |= scene_options(data.name) if size.method == "iga-nerf" else {}
    parser = ("iga-blender", "--downscale-factor", size.downscale_factor, "--test-skip", size.test_skip)
    return size.method, settings, parser
