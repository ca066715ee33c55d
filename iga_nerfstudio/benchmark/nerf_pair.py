"""A scene trained with and without the adjustment, everything else equal: how the gain is measured."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import numpy as np

from iga_nerfstudio.nerf.commands import default_device, evaluate, read_test_views, train

METRICS = ("psnr", "ssim", "lpips", "coarse_psnr")


def measure_nerf_pair(
    data: Path,
    method: str,
    num_iterations: int,
    downscale_factor: int,
    test_skip: int,
    seeds: tuple[int, ...],
    runs: Path,
) -> dict[str, Any]:
    """Train pairs with ns-train and evaluate them with ns-eval.

    A finished run is not trained again, so an interrupted measurement goes on where it stopped.

    Args:
        data: A Blender scene.
        method: ``iga-nerf`` or ``iga-nerf-tiny``.
        num_iterations: Training steps; the learning rate's decay is stretched to a tenth over them.
        downscale_factor: Image shrinking.
        test_skip: Every that many test views.
        seeds: One pair per seed.
        runs: Folder of the runs.

    Returns:
        Every run's metrics, and the gains: of the mean over views, and of the median view.

    Raises:
        CommandError: If a run fails.
    """
    results: list[dict[str, Any]] = []
    for seed in seeds:
        for enabled in (False, True):
            folder = runs / data.name / method / f"{'iga' if enabled else 'plain'}-{seed}-{num_iterations}"
            if not (folder / "eval.json").exists():
                _train(data, method, num_iterations, downscale_factor, test_skip, seed, enabled, runs, folder.name)
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
        "method": method,
        "num_iterations": num_iterations,
        "downscale_factor": downscale_factor,
        "test_skip": test_skip,
        "runs": results,
        "mean_over_seeds": summary,
    }


def _train(
    data: Path,
    method: str,
    num_iterations: int,
    downscale_factor: int,
    test_skip: int,
    seed: int,
    enabled: bool,
    runs: Path,
    timestamp: str,
) -> None:
    settings: dict[str, object] = {
        "--data": data,
        "--output-dir": runs,
        "--experiment-name": data.name,
        "--timestamp": timestamp,
        "--machine.seed": seed,
        "--machine.device-type": default_device(),
        "--max-num-iterations": num_iterations,
        "--steps-per-save": num_iterations,
        "--steps-per-eval-image": 10 * num_iterations,
        "--steps-per-eval-batch": 10 * num_iterations,
        "--vis": "tensorboard",
        "--pipeline.model.adjustment.enabled": enabled,
        "--optimizers.fields.scheduler.decay-steps": num_iterations,
    }
    parser = ("iga-blender", "--downscale-factor", downscale_factor, "--test-skip", test_skip)
    train(method, settings, parser, log=runs / data.name / method / f"{timestamp}.log")
