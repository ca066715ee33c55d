"""Timing things against each other, alternately, so that what else the machine does hits both alike; and memory."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from torch.profiler import ProfilerActivity, profile

from iga_nerfstudio.benchmark.study import Figures, Study
from iga_nerfstudio.devices import default_device

# Of what is timed.
Key = TypeVar("Key")


@dataclass(frozen=True)
class Timed(Study):
    """A measurement in rounds, in each of which everything has its turn."""

    rounds: int = 5  # Timed rounds.
    device: Literal["cpu", "cuda"] | None = None  # Where to compute; the GPU where there is one if not given.
    seed: int = 0  # Seed of networks and data.

    @property
    def place(self) -> Literal["cpu", "cuda"]:
        """The device that it is."""
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ValueError("--device is cuda, but torch finds no GPU here. Leave it out, or make it cpu.")
        return self.device or default_device()

    def settings(self) -> Figures:
        return super().settings() | {"device": self.place}


def on(figures: Figures) -> str:
    """Where something was measured, for a heading."""
    return "on a GPU" if figures["device"] == "cuda" else "on a CPU"


@contextmanager
def clock(seconds: list[float]) -> Iterator[None]:
    """Append how long something takes, until a GPU, if there is one, is done with it."""
    wait: Callable[[], object] = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    wait()
    start = time.perf_counter()
    yield
    wait()
    seconds.append(time.perf_counter() - start)


def time_alternately(
    functions: Mapping[Key, Callable[[], object]], rounds: int, warmup: int = 1
) -> dict[Key, list[float]]:
    """Call each function once a round, in order; seconds of each call by name, those of the warm-up left out."""
    if rounds < 1:
        raise ValueError(f"Need at least one round to time, got {rounds}.")
    seconds: dict[Key, list[float]] = {name: [] for name in functions}
    for _ in range(warmup + rounds):
        for name, function in functions.items():
            with clock(seconds[name]):
                function()
    return {name: values[warmup:] for name, values in seconds.items()}


def medians(seconds: Mapping[str, list[float]]) -> dict[str, float]:
    """The median of each function's times."""
    return {name: statistics.median(values) for name, values in seconds.items()}


def median_ratio(numerator: list[float], denominator: list[float]) -> float:
    """Median over rounds of one function's time over another's in the same round."""
    return statistics.median(a / b for a, b in zip(numerator, denominator, strict=True))


def step_costs(steps: Mapping[Key, Callable[[], object]], base: Key, rounds: int) -> dict[Key, float]:
    """Seconds of every kind of step over those of one of them, timed alternately."""
    seconds = time_alternately(steps, rounds, warmup=3)
    return {key: median_ratio(own, seconds[base]) for key, own in seconds.items()}


def peak_memory(function: Callable[[], object], device: str) -> int:
    """Most bytes of tensors that a call holds on top of what was there before; on a CPU, as the profiler counts."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        function()
    held = peak = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak
