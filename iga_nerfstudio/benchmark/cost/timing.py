"""Timing things against each other, alternately, so that what else the machine does hits both alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch


def time_alternately(
    functions: Mapping[str, Callable[[], object]], rounds: int, warmup: int = 1
) -> dict[str, list[float]]:
    """Call each function once a round.

    Args:
        functions: What to time, by name.
        rounds: Timed rounds.
        warmup: Rounds before, not timed.

    Returns:
        Seconds of each call, by name.

    Raises:
        ValueError: If there is no round to time.
    """
    if rounds < 1:
        raise ValueError(f"Need at least one round to time, got {rounds}.")
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for i in range(warmup + rounds):
        for name, function in functions.items():
            synchronise()
            start = time.perf_counter()
            function()
            synchronise()
            if i >= warmup:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def median_ratio(numerator: list[float], denominator: list[float]) -> float:
    """Median over rounds of one function's time over another's in the same round."""
    return statistics.median(a / b for a, b in zip(numerator, denominator, strict=True))


def synchronise() -> None:
    """Wait for what a GPU, if there is one, still has to do."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
