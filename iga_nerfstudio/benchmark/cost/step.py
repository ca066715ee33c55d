"""What the adjustment costs: plain step, adjusted step and the Jacobian route, for each kind of task."""

from __future__ import annotations

import statistics
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, ClassVar
from unittest.mock import patch

import torch
from torch import Tensor, nn

from iga_nerfstudio.adjustment import SpectralTransform, leading_eigenpairs, per_sample_entk
from iga_nerfstudio.adjustment import adjuster as adjuster_module
from iga_nerfstudio.adjustment import rebalance as rebalance_module
from iga_nerfstudio.adjustment.rebalance import PARTS
from iga_nerfstudio.adjustment.transform import eigenpairs_needed
from iga_nerfstudio.benchmark.cost.timing import Timed, clock, median_ratio, medians, on, peak_memory, time_alternately
from iga_nerfstudio.benchmark.cost.workloads import BUILDERS, GPU_ONLY, Training
from iga_nerfstudio.benchmark.study import Figures, Train
from iga_nerfstudio.benchmark.tables import table


@dataclass(frozen=True)
class Step(Timed):
    """Adjusted training steps over plain ones and over the Jacobian route, for every kind of task."""

    name: ClassVar[str] = "step"

    # What to train, such as signal-p8; everything if not given, but on a CPU without what is for a GPU.
    workloads: tuple[str, ...] | None = None
    rounds: int = 9  # Timed rounds at least; short steps get more.
    jacobian_route: bool = True  # Whether to time the Jacobian route too, which takes minutes for the largest.

    def measure(self, train: Train) -> Figures:
        workloads = self.workloads
        if workloads is None:
            workloads = tuple(name for name in BUILDERS if self.place == "cuda" or name not in GPU_ONLY)
        if not workloads or set(workloads) - set(BUILDERS):
            raise ValueError(f"Name at least one workload of {', '.join(BUILDERS)}, got {workloads}.")
        return {"workloads": [self.measure_workload(name) for name in workloads]}

    def measure_workload(self, workload: str) -> Figures:
        """Time plain and adjusted steps alternately, then the parts of the adjustment and the Jacobian route."""
        plain, adjusted = (BUILDERS[workload](enabled, self.place, self.seed) for enabled in (False, True))
        steps = {"plain": plain.step, "adjusted": adjusted.step}
        adjusted.step()  # the first one also checks the network
        trial = sum(seconds for (seconds,) in time_alternately(steps, 1).values())
        rounds = max(self.rounds, min(int(10 / trial), 200))  # steps of milliseconds are repeated for ten seconds
        seconds = time_alternately(steps, rounds)
        median, ratio = medians(seconds), median_ratio(seconds["adjusted"], seconds["plain"])
        print(f"{workload}: adjusted / plain {ratio:.3f}")
        memory = {name: peak_memory(step, self.place) for name, step in steps.items()}
        inputs, parts = _parts(adjusted, min(rounds, 7))
        adjuster = adjusted.adjusters[0]
        figures: Figures = {
            "workload": workload,
            "num_groups": sum(len(rows[0]) for rows in inputs),
            "end": adjuster.end,
            "representative": adjuster.representative,
            "num_points": [points for _network, points in plain.sizes],
            "parameters": sum(p.numel() for p in adjuster.network.parameters()),
            "rounds": rounds,
            "median_seconds": median,
            "ratio": ratio,
            "peak_memory_bytes": memory,
            "memory_ratio": memory["adjusted"] / memory["plain"],
            "part_seconds": parts,
            "adjustment_seconds": sum(parts.values()),
            "steps_unadjusted": sum(adjuster.diagnostics.steps_unadjusted for adjuster in adjusted.adjusters),
            "floor": measure_floor(plain.sizes, median["plain"], self.place),
        }
        if self.jacobian_route:
            figures["reference_seconds"] = sum(map(_reference_seconds, adjusted.adjusters, inputs))
            figures["reference_over_adjustment"] = figures["reference_seconds"] / figures["adjustment_seconds"]
        return figures

    @classmethod
    def section(cls, figures: Figures, stem: str) -> str:
        rows = []
        for step in figures["workloads"]:
            parts = ", ".join(f"{1000 * seconds:.1f}" for seconds in step["part_seconds"].values())
            route = step.get("reference_over_adjustment")
            cells = [step["workload"], str(step["num_groups"]), f"{sum(step['num_points']):,}"]
            cells += [f"{1000 * step['median_seconds']['plain']:.1f} ms", f"**{step['ratio']:.3f}**"]
            cells += [f"{step['memory_ratio']:.3f} x", f"{parts} ms", "" if route is None else f"{route:.0f} x"]
            rows.append([*cells, f"{step['floor']['plain_over_products']:.2f}"])
        head = ["workload", "n", "points", "plain", "adjusted / plain", "memory"]
        head += ["representatives, kernel, eigenpairs, apply", "Jacobian route", "plain over products"]
        return f"## Steps {on(figures)}\n\n{table(head, rows)}"


def _parts(training: Training, rounds: int) -> tuple[list[tuple[Tensor, ...]], dict[str, float]]:
    """The representatives of every adjuster's last kernel, and median seconds per step of each part."""
    steps: list[dict[str, list[float]]] = []

    def timed(name: str) -> Any:
        return clock(steps[-1][name])

    with ExitStack() as patches:
        for module in (adjuster_module, rebalance_module):
            patches.enter_context(patch.object(module, "record_function", timed))
        kernels = [
            patches.enter_context(patch.object(adjuster, "_entk_and_space", wraps=adjuster._entk_and_space))
            for adjuster in training.adjusters
        ]
        for _ in range(rounds):
            steps.append(defaultdict(list))  # a step in chunks applies the transform more than once
            training.step()
    seconds = {part: statistics.median(sum(step[name]) for step in steps) for part, name in PARTS.items()}
    return [kernel.call_args.args[0] for kernel in kernels], seconds


def _reference_seconds(adjuster: Any, inputs: tuple[Tensor, ...]) -> float:
    """Per-sample Jacobian, full eigendecomposition, dense S: the adjustment as the paper's authors compute it."""
    seconds: list[float] = []
    residual = torch.randn(len(inputs[0]), 1024, device=inputs[0].device)
    with clock(seconds):
        kernel = per_sample_entk(adjuster.network, inputs, adjuster.readout, memory_limit_mb=2048)
        pairs = leading_eigenpairs(kernel, eigenpairs_needed(adjuster.end, adjuster.rule), "dense")
        transform = SpectralTransform.from_eigenpairs(*pairs, end=adjuster.end, rule=adjuster.rule)
        (transform.dense() @ residual).sum().item()
    return seconds[0]


def measure_floor(sizes: list[tuple[nn.Module, int]], seconds: float, device: str) -> dict[str, float]:
    """The rate of one float32 product of a layer's size, what it allows a plain step's products at best, and how far
    from that a step is that takes so many seconds, on so many points of each network."""
    weights = [(weight, points) for network, points in sizes for weight in network.parameters() if weight.ndim == 2]
    rows, width = 1 << 16, max(weight.shape[0] for weight, _points in weights)
    points, square = torch.randn(rows, width, device=device), torch.randn(width, width, device=device)
    out = torch.empty_like(points)  # memory that is there already
    timed = medians(time_alternately({"product": lambda: torch.mm(points, square, out=out)}, 15, warmup=3))
    rate = 2 * rows * width**2 / timed["product"]
    # One product forward and two backward, of two operations per weight and point each.
    flops = sum(6 * points * weight.numel() for weight, points in weights)
    least = flops / rate
    return {"flops_per_second": rate, "flops": flops, "product_seconds": least, "plain_over_products": seconds / least}
