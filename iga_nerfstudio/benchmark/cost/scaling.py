"""How the adjustment's time and memory grow with the number of groups."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from iga_nerfstudio.adjustment import SpectralTransform, layerwise_entk, leading_eigenpairs, sum_of_sigmoids
from iga_nerfstudio.adjustment.transform import eigenpairs_needed
from iga_nerfstudio.benchmark.cost.kernel import nerf_problem
from iga_nerfstudio.benchmark.cost.timing import Timed, medians, on, peak_memory, time_alternately
from iga_nerfstudio.benchmark.plots import panels_of
from iga_nerfstudio.benchmark.study import Figures, Train
from iga_nerfstudio.benchmark.tables import table

# The network's own pass is timed on so many points, and a ray takes so many in the fine network.
POINTS, SAMPLES_PER_RAY = 1 << 14, 192


@dataclass(frozen=True)
class Scaling(Timed):
    """Time and memory of the adjustment as the number of groups grows."""

    name: ClassVar[str] = "scaling"

    sizes: tuple[int, ...] = (256, 512, 1024, 2048, 4096, 8192)  # Numbers of groups, n.
    end: int = 25  # Last balanced eigenvalue, by Adam's rule.

    def measure(self, train: Train) -> Figures:
        needed = eigenpairs_needed(self.end, "adam")
        if not self.sizes or min(self.sizes) < needed:
            raise ValueError(f"Name numbers of groups of at least {needed} for end={self.end}, got {self.sizes}.")
        network, points = nerf_problem(POINTS, torch.float32, self.place, self.seed)
        step = {"step": lambda: torch.autograd.grad(network(*points).sum(), list(network.parameters()))}
        per_point = medians(time_alternately(step, self.rounds))["step"] / POINTS
        return {
            "samples_per_ray": SAMPLES_PER_RAY,
            "plain_seconds_per_point": per_point,
            "sizes": [self.measure_size(n, per_point * SAMPLES_PER_RAY * n) for n in self.sizes],
        }

    def measure_size(self, n: int, plain_seconds: float) -> Figures:
        """Seconds of the kernel of n points, its eigenpairs, and their application to a colour per ray; peak memory of
        all three together; their time as a share of a plain step's."""
        network, inputs = nerf_problem(n, torch.float32, self.place, self.seed)
        count, residual = eigenpairs_needed(self.end, "adam"), torch.randn(n, 3, device=self.place)

        def kernel() -> torch.Tensor:
            return layerwise_entk(network, inputs, sum_of_sigmoids, check=False)

        def transform(matrix: torch.Tensor) -> SpectralTransform:
            return SpectralTransform.from_eigenpairs(*leading_eigenpairs(matrix, count), end=self.end)

        matrix = kernel()
        prepared = transform(matrix)
        parts = {
            "kernel": kernel,
            "eigenpairs": lambda: leading_eigenpairs(matrix, count),
            "apply": lambda: prepared.apply(residual),
        }
        seconds = medians(time_alternately(parts, self.rounds))
        return {
            "num_groups": n,
            "part_seconds": seconds,
            "adjustment_seconds": sum(seconds.values()),
            "peak_memory_bytes": peak_memory(lambda: transform(kernel()).apply(residual), self.place),
            "share_of_plain_step": sum(seconds.values()) / plain_seconds,
        }

    @classmethod
    def section(cls, figures: Figures, stem: str) -> str:
        rows = [
            [str(size["num_groups"])]
            + [f"{1000 * seconds:.1f} ms" for seconds in (*size["part_seconds"].values(), size["adjustment_seconds"])]
            + [f"{100 * size['share_of_plain_step']:.1f} %", f"{size['peak_memory_bytes'] / 2**20:.0f} MiB"]
            for size in figures["sizes"]
        ]
        head = ("n", "kernel", "eigenpairs", "apply", "together", "share of a plain step", "peak memory")
        return f"""## More groups, {on(figures)}

Full NeRF network, end = {figures["end"]}. The share is of a plain step of n rays with {figures["samples_per_ray"]} \
samples each, scaled from a measured time per sample.

{table(head, rows)}
![time and memory over the number of groups]({stem}.png)
"""

    @classmethod
    def draw(cls, figures: Figures, path: Path) -> None:
        sizes = figures["sizes"]
        n = [size["num_groups"] for size in sizes]
        figure, ((time, memory),) = panels_of(2, 4.5, 3.6)
        for part in sizes[0]["part_seconds"]:
            time.loglog(n, [size["part_seconds"][part] for size in sizes], "o-", label=part)
        memory.loglog(n, [size["peak_memory_bytes"] / 2**20 for size in sizes], "o-", color="black", label="peak")
        memory.loglog(n, [4 * k * k / 2**20 for k in n], "--", color="grey", label="one n x n matrix, float32")
        for axis, quantity in ((time, "seconds"), (memory, "MiB")):
            axis.set(xlabel="groups, n", ylabel=quantity)
            axis.set_xticks(n, [str(k) for k in n])
            axis.minorticks_off()
            axis.grid(alpha=0.3)
            axis.legend()
        figure.savefig(path.with_name(f"{path.name}.png"))
