"""Learning curves, steps and values: how soon a quality is reached, and what is reached by a step."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

Curve = Sequence[tuple[float, float]]


def steps_to_quality(curve: Curve, quality: float) -> float | None:
    """Steps after which a curve first reaches a quality, interpolated between its points; None if it never does."""
    first, value = curve[0]
    if value >= quality:
        return first
    for (before, lower), (after, upper) in pairwise(curve):
        if upper >= quality:
            return before + (after - before) * (quality - lower) / (upper - lower)
    return None


def value_at(curve: Curve, step: float) -> float:
    """The value at a step, interpolated between a curve's points; that of its end beyond."""
    for (before, lower), (after, upper) in pairwise(curve):
        if step < after:
            return lower + (upper - lower) * (step - before) / (after - before)
    return curve[-1][1]
