"""Layerwise kernel against per-sample gradients on the full NeRF network: error and time."""

from __future__ import annotations

import statistics
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from iga_nerfstudio.adjustment import layerwise_entk, per_sample_entk, sum_of_sigmoids
from iga_nerfstudio.benchmark.cost.timing import median_ratio, time_alternately
from iga_nerfstudio.networks import NeRFMLP


def measure_kernel(num_samples: int, rounds: int, device: str, seed: int) -> dict[str, Any]:
    """Compare both kernels at n random points.

    Args:
        num_samples: n.
        rounds: Timed rounds.
        device: ``"cpu"`` or ``"cuda"``.
        seed: Seed of network and points.

    Returns:
        Relative Frobenius errors in both precisions, median seconds of each in float32, and their ratio.
    """
    errors = {}
    for dtype in (torch.float64, torch.float32):
        network, inputs = nerf_problem(num_samples, dtype, device, seed)
        exact = per_sample_entk(network, inputs, sum_of_sigmoids)
        fast = layerwise_entk(network, inputs, sum_of_sigmoids)
        errors[str(dtype).removeprefix("torch.")] = ((fast - exact).norm() / exact.norm()).item()
    network, inputs = nerf_problem(num_samples, torch.float32, device, seed)
    seconds = time_alternately(
        {
            "layerwise": lambda: layerwise_entk(network, inputs, sum_of_sigmoids, check=False),
            "per_sample": lambda: per_sample_entk(network, inputs, sum_of_sigmoids),
        },
        rounds,
    )
    return {
        "num_samples": num_samples,
        "parameters": sum(p.numel() for p in network.parameters()),
        "rounds": rounds,
        "seed": seed,
        "relative_error": errors,
        "median_seconds": {name: statistics.median(values) for name, values in seconds.items()},
        "speedup": median_ratio(seconds["per_sample"], seconds["layerwise"]),
    }


def nerf_problem(n: int, dtype: torch.dtype, device: str, seed: int) -> tuple[NeRFMLP, tuple[Tensor, Tensor]]:
    """The full NeRF network and n random points: positions and directions, ``(n, 3)`` each."""
    torch.manual_seed(seed)
    network = NeRFMLP().to(device, dtype)
    positions = (torch.rand(n, 3) * 2 - 1).to(device, dtype)
    directions = normalize(torch.randn(n, 3), dim=-1).to(device, dtype)
    return network, (positions, directions)
