"""Learning curves: means over trainings, and how soon a quality is reached."""

from __future__ import annotations

import statistics
from typing import Any


def mean_curve(outcomes: list[dict[str, Any]]) -> list[tuple[int, float]]:
    """Steps, and test PSNR at them as a mean over trainings."""
    curves = [run["curve"] for run in outcomes]
    return [(points[0]["step"], statistics.mean(p["psnr"] for p in points)) for points in zip(*curves, strict=True)]


def steps_to_quality(curve: list[tuple[int, float]], quality: float) -> float | None:
    """Steps after which a learning curve first reaches a quality, interpolated between its points.

    Args:
        curve: Steps and PSNR.
        quality: PSNR to reach.

    Returns:
        Steps; those of the first point if the quality is reached there already; None if it never is.
    """
    for i, (step, psnr) in enumerate(curve):
        if psnr >= quality:
            if i == 0:
                return step
            before, lower = curve[i - 1]
            return before + (step - before) * (quality - lower) / (psnr - lower)
    return None


def fraction(value: float | None) -> str:
    """Steps or seconds to a quality, over those of another training, for a table.

    Args:
        value: The fraction; None if the quality was never reached.
    """
    return "not reached" if value is None else f"{value:.2f}"
