"""What a machine can do at best: the rate of its matrix products, and that of its copies."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

import torch
from torch import nn

from iga_nerfstudio.benchmark.cost.timing import time_alternately

# Rows of the measured product and copy; a layer's activations at that many points.
_ROWS, _ROUNDS = 1 << 16, 15


@dataclass(frozen=True)
class Floor:
    """Rates of this machine.

    Attributes:
        flops_per_second: Floating-point operations per second of a product ``(65536, width) (width, width)`` in
            float32, into memory that is there already.
        bytes_per_second: Bytes read and written per second by a copy of ``(65536, width)``.
    """

    flops_per_second: float
    bytes_per_second: float


def measure_floor(width: int, device: str) -> Floor:
    """Measure the rates for a network's width.

    Args:
        width: Units per layer.
        device: ``"cpu"`` or ``"cuda"``.
    """
    points, weights = torch.randn(_ROWS, width, device=device), torch.randn(width, width, device=device)
    product, copy = torch.empty_like(points), torch.empty_like(points)
    seconds = time_alternately(
        {"product": lambda: torch.mm(points, weights, out=product), "copy": lambda: copy.copy_(points)}, _ROUNDS, 3
    )
    median = {name: statistics.median(values) for name, values in seconds.items()}
    return Floor(2 * _ROWS * width**2 / median["product"], 2 * points.nbytes / median["copy"])


def training_flops(network: nn.Module, num_points: int) -> int:
    """Operations of the matrix products of a training step: one forward, two backward, two per weight and point.

    Args:
        network: Its weight matrices are counted, all parameters of two axes.
        num_points: Points that go through it.
    """
    return 6 * num_points * sum(p.numel() for p in network.parameters() if p.ndim == 2)


def activation_bytes(network: nn.Module, num_points: int) -> int:
    """Bytes that a training step moves at least for its activations in float32: every layer's output is written and
    read going forward, and so is its gradient going backward.

    Args:
        network: The outputs of its weight matrices are counted.
        num_points: Points that go through it.
    """
    return 4 * 4 * num_points * sum(p.shape[0] for p in network.parameters() if p.ndim == 2)
