"""What the adjustment costs: plain step, adjusted step and the Jacobian route, for each kind of task."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from iga_nerfstudio.adjustment import SpectralTransform, leading_eigenpairs, per_sample_entk
from iga_nerfstudio.adjustment import adjuster as adjuster_module
from iga_nerfstudio.adjustment import rebalance as rebalance_module
from iga_nerfstudio.adjustment.kernel import Inputs
from iga_nerfstudio.adjustment.rebalance import PARTS
from iga_nerfstudio.adjustment.transform import eigenpairs_needed
from iga_nerfstudio.benchmark.cost.floor import activation_bytes, measure_floor, training_flops
from iga_nerfstudio.benchmark.cost.memory import peak_memory
from iga_nerfstudio.benchmark.cost.timing import median_ratio, synchronise, time_alternately
from iga_nerfstudio.benchmark.cost.workloads import BUILDERS, Device, Training, Workload

# Steps of milliseconds are repeated for that many seconds, or that often.
SECONDS_PER_WORKLOAD, MOST_ROUNDS = 10.0, 200
# Rounds in which the parts of the adjustment are timed.
PART_ROUNDS = 7
# Columns that the Jacobian route's dense S is applied to.
REFERENCE_COLUMNS = 1024


def measure_steps(
    workloads: tuple[Workload, ...],
    rounds: int,
    device: Device,
    seed: int,
    reference: bool,
    tell: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Measure some workloads one after the other.

    Args:
        workloads: What to train; see :data:`~iga_nerfstudio.benchmark.cost.workloads.BUILDERS`.
        rounds: Timed rounds of one step each, at least; short steps get more.
        device: Where to compute.
        seed: Seed of networks and data.
        reference: Whether to time the Jacobian route too.
        tell: Told about every workload measured.

    Returns:
        The figures of each workload, see :func:`measure_step`.

    Raises:
        ValueError: If there is no workload.
    """
    if not workloads:
        raise ValueError(f"Name at least one workload of {', '.join(BUILDERS)}.")
    measured = []
    for workload in workloads:
        figures = measure_step(workload, rounds, device, seed, reference)
        tell(f"{workload}: adjusted / plain {figures['ratio']:.3f}")
        measured.append(figures)
    return {"device": device, "seed": seed, "workloads": measured}


def measure_step(workload: Workload, rounds: int, device: Device, seed: int, reference: bool) -> dict[str, Any]:
    """Time plain and adjusted steps alternately, then the parts of the adjustment and the Jacobian route.

    Args:
        workload: What to train.
        rounds: Timed rounds of one step each, at least; short steps get more.
        device: Where to compute.
        seed: Seed of networks and data.
        reference: Whether to time the Jacobian route, which takes minutes for the largest.

    Returns:
        Sizes, median seconds and their ratio, peak memory of both steps, seconds of each part of the adjustment, of
        the whole of it, and of the Jacobian route, and the floor that the machine sets for the plain step.
    """
    build = BUILDERS[workload]
    plain, adjusted = build(False, device, seed), build(True, device, seed)
    steps = {"plain": plain.step, "adjusted": adjusted.step}
    adjusted.step()  # the first one also checks the network
    trial = sum(seconds for (seconds,) in time_alternately(steps, 1).values())
    rounds = max(rounds, min(int(SECONDS_PER_WORKLOAD / trial), MOST_ROUNDS))
    seconds = time_alternately(steps, rounds)
    memory = {name: peak_memory(step, device) for name, step in steps.items()}
    inputs, parts = _parts(adjusted, min(rounds, PART_ROUNDS))
    median = {name: statistics.median(values) for name, values in seconds.items()}
    figures: dict[str, Any] = {
        "workload": workload,
        "num_groups": len(inputs[0]),
        "end": adjusted.adjuster.end,
        "representative": adjusted.adjuster.representative,
        "num_points": [points for _network, points in plain.sizes],
        "parameters": sum(p.numel() for p in adjusted.network.parameters()),
        "rounds": rounds,
        "median_seconds": median,
        "ratio": median_ratio(seconds["adjusted"], seconds["plain"]),
        "peak_memory_bytes": memory,
        "memory_ratio": memory["adjusted"] / memory["plain"],
        "part_seconds": parts,
        "adjustment_seconds": sum(parts.values()),
        "steps_unadjusted": adjusted.adjuster.diagnostics.steps_unadjusted,
        "floor": _floor(plain, median["plain"], device),
    }
    if reference:
        figures["reference_seconds"] = _reference_seconds(adjusted, inputs)
        figures["reference_over_adjustment"] = figures["reference_seconds"] / figures["adjustment_seconds"]
    return figures


def _floor(plain: Training, seconds: float, device: Device) -> dict[str, float]:
    """What the machine's rates allow a plain step at best, and how far from it the step is."""
    width = max(p.shape[0] for p in plain.network.parameters() if p.ndim == 2)
    rates = measure_floor(width, device)
    flops = sum(training_flops(network, points) for network, points in plain.sizes)
    moved = sum(activation_bytes(network, points) for network, points in plain.sizes)
    products = flops / rates.flops_per_second
    return {
        **asdict(rates),
        "flops": flops,
        "bytes": moved,
        "product_seconds": products,
        "memory_seconds": moved / rates.bytes_per_second,
        "plain_over_products": seconds / products,
    }


def _parts(training: Training, rounds: int) -> tuple[tuple[Tensor, ...], dict[str, float]]:
    """The representatives of the last step, and median seconds per step of each part."""
    seen: list[tuple[Tensor, ...]] = []
    entk = training.adjuster._entk
    seconds: dict[str, list[float]] = {name: [] for name in PARTS.values()}

    def watched(inputs: tuple[Tensor, ...], shares: Tensor | None) -> Tensor:
        seen.append(inputs)
        return entk(inputs, shares)

    @contextmanager
    def timed(name: str) -> Iterator[None]:
        synchronise()
        start = time.perf_counter()
        yield
        synchronise()
        seconds[name][-1] += time.perf_counter() - start

    with (
        patch.object(training.adjuster, "_entk", watched),
        patch.object(adjuster_module, "record_function", timed),
        patch.object(rebalance_module, "record_function", timed),
    ):
        for _ in range(rounds):
            for values in seconds.values():
                values.append(0.0)  # a step in chunks applies the transform more than once
            training.step()
    return seen[-1], {part: statistics.median(seconds[name]) for part, name in PARTS.items()}


def _reference_seconds(training: Training, inputs: Inputs) -> float:
    """Per-sample Jacobian, full eigendecomposition, dense S: the adjustment as the paper's authors compute it."""
    adjuster = training.adjuster
    residual = torch.randn(len(inputs[0]), REFERENCE_COLUMNS, device=inputs[0].device)
    synchronise()
    start = time.perf_counter()
    kernel = per_sample_entk(training.network, inputs, adjuster.readout, memory_limit_mb=2048)
    count = eigenpairs_needed(adjuster.end, adjuster.rule)
    values, vectors = leading_eigenpairs(kernel, count, "dense")
    transform = SpectralTransform.from_eigenpairs(values, vectors, end=adjuster.end, rule=adjuster.rule)
    (transform.dense() @ residual).sum().item()
    return time.perf_counter() - start
