"""Learning curves, steps and values: how soon a quality is reached, and what is reached by a step."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from itertools import pairwise

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


def to_quality(curve: Curve, base: Curve, cost: float) -> tuple[float | None, float | None]:
    """Steps and seconds after which a curve reaches the end of another one, as fractions of the other's.

    Args:
        curve: The one.
        base: The other.
        cost: A step of the one over a step of the other, in seconds.
    """
    steps = steps_to_quality(curve, base[-1][1])
    share = None if steps is None else steps / base[-1][0]
    return share, None if share is None else share * cost


def value_at(curve: Curve, step: float) -> float:
    """The value at a step, interpolated between a curve's points; that of its end beyond."""
    for (before, lower), (after, upper) in pairwise(curve):
        if step < after:
            return lower + (upper - lower) * (step - before) / (after - before)
    return curve[-1][1]
