"""How the adjustment's time and memory grow with the number of groups."""

from __future__ import annotations

import statistics
from typing import Any

import torch

from iga_nerfstudio.adjustment import SpectralTransform, layerwise_entk, leading_eigenpairs, sum_of_sigmoids
from iga_nerfstudio.adjustment.transform import eigenpairs_needed
from iga_nerfstudio.benchmark.cost.kernel import nerf_problem
from iga_nerfstudio.benchmark.cost.memory import peak_memory
from iga_nerfstudio.benchmark.cost.timing import time_alternately
from iga_nerfstudio.benchmark.cost.workloads import Device

# The network's own pass is timed on so many points, and a ray takes so many in the fine network.
POINTS, SAMPLES_PER_RAY = 1 << 14, 192


def measure_scaling(sizes: tuple[int, ...], end: int, rounds: int, device: Device, seed: int) -> dict[str, Any]:
    """Measure the adjustment of the full NeRF network at n random points, for some n.

    Args:
        sizes: Numbers of groups, n.
        end: Last balanced eigenvalue, by Adam's rule.
        rounds: Timed rounds, of which the median counts.
        device: Where to compute.
        seed: Seed of networks and points.

    Returns:
        For each n seconds of kernel, eigenpairs and application to a colour per ray, peak memory of all three
        together, and their time as a share of a plain step of n rays in the fine network, that step's time being
        scaled from one of 16,384 points.

    Raises:
        ValueError: If there is no size, or one is too small for ``end``.
    """
    needed = eigenpairs_needed(end, "adam")
    if not sizes or min(sizes) < needed:
        raise ValueError(f"Name numbers of groups of at least {needed} for end={end}, got {sizes}.")
    network, points = nerf_problem(POINTS, torch.float32, device, seed)

    def train() -> None:
        torch.autograd.grad(network(*points).sum(), list(network.parameters()))

    per_point = statistics.median(time_alternately({"train": train}, rounds)["train"]) / POINTS
    measured = [_measure_size(n, end, rounds, device, seed) for n in sizes]
    for figures in measured:
        plain = per_point * SAMPLES_PER_RAY * figures["num_groups"]
        figures["share_of_plain_step"] = figures["adjustment_seconds"] / plain
    return {
        "device": device,
        "end": end,
        "rounds": rounds,
        "seed": seed,
        "samples_per_ray": SAMPLES_PER_RAY,
        "plain_seconds_per_point": per_point,
        "sizes": measured,
    }


def _measure_size(n: int, end: int, rounds: int, device: Device, seed: int) -> dict[str, Any]:
    network, inputs = nerf_problem(n, torch.float32, device, seed)
    count, residual = eigenpairs_needed(end, "adam"), torch.randn(n, 3, device=device)

    def kernel() -> torch.Tensor:
        return layerwise_entk(network, inputs, sum_of_sigmoids, check=False)

    def whole() -> torch.Tensor:
        pairs = leading_eigenpairs(kernel(), count)
        return SpectralTransform.from_eigenpairs(*pairs, end=end).apply(residual)

    matrix = kernel()
    values, vectors = leading_eigenpairs(matrix, count)
    transform = SpectralTransform.from_eigenpairs(values, vectors, end=end)
    seconds = time_alternately(
        {
            "kernel": kernel,
            "eigenpairs": lambda: leading_eigenpairs(matrix, count),
            "apply": lambda: transform.apply(residual),
        },
        rounds,
    )
    median = {part: statistics.median(times) for part, times in seconds.items()}
    return {
        "num_groups": n,
        "part_seconds": median,
        "adjustment_seconds": sum(median.values()),
        "peak_memory_bytes": peak_memory(whole, device),
    }
