"""A step of MuonWithAdam against one of torch.optim.Muon."""

from __future__ import annotations

import statistics
from typing import Any

import torch
from torch import nn

from iga_nerfstudio.benchmark.timing import median_ratio, time_alternately
from iga_nerfstudio.muon import MuonWithAdam


def measure_muon_step(width: int, rounds: int, device: str, seed: int) -> dict[str, Any]:
    """Time steps on one square matrix alternately.

    Args:
        width: Its side.
        rounds: Timed rounds of one step each.
        device: ``"cpu"`` or ``"cuda"``.
        seed: Seed of its gradient.

    Returns:
        Median seconds of both and the median ratio.

    Raises:
        ValueError: If this torch has no Muon.
    """
    if not hasattr(torch.optim, "Muon"):
        raise ValueError(f"torch {torch.__version__} has no Muon to compare with; it came with torch 2.9.")
    generator = torch.Generator().manual_seed(seed)
    gradient = torch.randn(width, width, generator=generator).to(device)
    matrices = [nn.Parameter(torch.zeros_like(gradient)) for _ in range(2)]
    for matrix in matrices:
        matrix.grad = gradient.clone()
    ours, theirs = MuonWithAdam(matrices[:1]), torch.optim.Muon(matrices[1:], lr=2e-2, weight_decay=0.0)
    seconds = time_alternately({"float32": ours.step, "torch": theirs.step}, rounds)
    return {
        "width": width,
        "rounds": rounds,
        "seed": seed,
        "median_seconds": {name: statistics.median(values) for name, values in seconds.items()},
        "ratio": median_ratio(seconds["torch"], seconds["float32"]),
    }
