"""Learning curves, steps and values: how soon a quality is reached, and what is reached by a step."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from iga_nerfstudio.benchmark.tables import Run, finished

Curve = Sequence[tuple[float, float]]


def mean_curve(runs: Sequence[Run]) -> list[tuple[int, float]]:
    """Steps, and the metric at them as a mean over the trainings that finished."""
    curves = [run["curve"] for run in finished(runs)]
    return [(points[0][0], statistics.mean(value for _, value in points)) for points in zip(*curves, strict=True)]


def steps_to_quality(curve: Curve, quality: float) -> float | None:
    """Steps after which a curve first reaches a quality, interpolated between its points; None if it never does."""
    first, value = curve[0]
    if value >= quality:
        return first
    for (before, lower), (after, upper) in pairwise(curve):
        if upper >= quality:
            return before + (after - before) * (quality - lower) / (upper - lower)
    return None


def to_quality(curve: Curve, base: Curve, cost: float, until: float = 1.0) -> list[str]:
    """Steps and seconds after which a curve reaches the end of another one, as fractions of the other's; a step of the
    one costs so many times as many seconds as a step of the other, until that share of its steps."""
    steps = steps_to_quality(curve, base[-1][1])
    if steps is None:
        return ["not reached"] * 2
    share = steps / base[-1][0]
    dearer = min(share, until * curve[-1][0] / base[-1][0])
    return [f"{share:.2f}", f"{share + (cost - 1) * dearer:.2f}"]


def value_at(curve: Curve, step: float) -> float:
    """The value at a step, interpolated between a curve's points; that of its end beyond."""
    steps, values = zip(*curve, strict=True)
    return float(np.interp(step, steps, values))
