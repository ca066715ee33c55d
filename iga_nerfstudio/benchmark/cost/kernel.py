"""The kernel, computed layer by layer or from every sample's gradient: error and time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from iga_nerfstudio.adjustment import layerwise_entk, per_sample_entk, sum_of_sigmoids
from iga_nerfstudio.benchmark.cost.timing import Timed, median_ratio, medians, time_alternately
from iga_nerfstudio.benchmark.study import Figures, Train
from iga_nerfstudio.benchmark.tables import table
from iga_nerfstudio.networks import NeRFMLP


@dataclass(frozen=True)
class Kernel(Timed):
    """Layerwise kernel against per-sample gradients: relative error and speed, on the full NeRF network."""

    name: ClassVar[str] = "kernel"

    num_samples: int = 256  # Representatives, n.

    def measure(self, train: Train) -> Figures:
        if self.num_samples < 1:
            raise ValueError(f"--num-samples must be 1 or more, got {self.num_samples}.")
        errors = {}
        for dtype in (torch.float64, torch.float32):  # what is timed is the last
            network, inputs = nerf_problem(self.num_samples, dtype, self.place, self.seed)
            exact = per_sample_entk(network, inputs, sum_of_sigmoids)
            fast = layerwise_entk(network, inputs, sum_of_sigmoids)
            errors[str(dtype).removeprefix("torch.")] = ((fast - exact).norm() / exact.norm()).item()
        ways = {
            "layerwise": lambda: layerwise_entk(network, inputs, sum_of_sigmoids, check=False),
            "per_sample": lambda: per_sample_entk(network, inputs, sum_of_sigmoids),
        }
        seconds = time_alternately(ways, self.rounds)
        return {
            "parameters": sum(p.numel() for p in network.parameters()),
            "relative_error": errors,
            "median_seconds": medians(seconds),
            "speedup": median_ratio(seconds["per_sample"], seconds["layerwise"]),
        }

    @classmethod
    def section(cls, figures: Figures, stem: str) -> str:
        seconds, errors = figures["median_seconds"], figures["relative_error"]
        rows = [["median seconds", f"{seconds['layerwise']:.4f}", f"{seconds['per_sample']:.3f}"]]
        rows += [[f"relative error, {dtype}", f"{error:.1e}", "reference"] for dtype, error in errors.items()]
        return f"""## Kernel: layerwise against per-sample gradients

Full `iga-nerf` network ({figures["parameters"]:,} parameters), n = {figures["num_samples"]} points.

{table(["", "layerwise", "per-sample"], rows)}
The layerwise kernel is **{figures["speedup"]:.0f} times** faster.
"""


def nerf_problem(n: int, dtype: torch.dtype, device: str, seed: int) -> tuple[NeRFMLP, tuple[Tensor, Tensor]]:
    """The full NeRF network and n random points: positions and directions, ``(n, 3)`` each."""
    torch.manual_seed(seed)
    network = NeRFMLP().to(device, dtype)
    positions = (torch.rand(n, 3) * 2 - 1).to(device, dtype)
    directions = normalize(torch.randn(n, 3), dim=-1).to(device, dtype)
    return network, (positions, directions)
