"""``iga-bench``: one subcommand per measurement; each prints its figures and writes them as JSON."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro
from rich.console import Console

from iga_nerfstudio.benchmark.record import write_result
from iga_nerfstudio.benchmark.report import write_report
from iga_nerfstudio.nerf.commands import CommandError, default_device

RESULTS = Path("benchmarks/results")


@dataclass
class Kernel:
    """Layerwise kernel against per-sample gradients: relative error and speed, on the full NeRF network."""

    num_samples: int = 256
    """Representatives, n."""
    rounds: int = 5
    """Timed rounds."""
    device: Literal["cpu", "cuda"] | None = None
    """Where to compute; the GPU where there is one if not given."""
    seed: int = 0
    """Seed of network and points."""
    output: Path = RESULTS / "kernel.json"
    """File to write."""

    def measure(self) -> dict[str, Any]:
        """Run the measurement."""
        from iga_nerfstudio.benchmark.kernel import measure_kernel

        return measure_kernel(self.num_samples, self.rounds, self.device or default_device(), self.seed)


@dataclass
class NerfStep:
    """One adjusted training step of the full iga-nerf over one plain step, timed alternately."""

    num_rays: int = 1024
    """Rays per step."""
    rounds: int = 7
    """Timed rounds."""
    device: Literal["cpu", "cuda"] | None = None
    """Where to compute; the GPU where there is one if not given."""
    seed: int = 0
    """Seed of networks and rays."""
    output: Path = RESULTS / "nerf_step.json"
    """File to write."""

    def measure(self) -> dict[str, Any]:
        """Run the measurement."""
        from iga_nerfstudio.benchmark.nerf_step import measure_nerf_step

        return measure_nerf_step(self.num_rays, self.rounds, self.device or default_device(), self.seed)


@dataclass
class NerfPair:
    """A Blender scene trained by ns-train with and without the adjustment, same seeds, evaluated by ns-eval."""

    data: Path
    """The scene's folder."""
    method: Literal["iga-nerf", "iga-nerf-tiny"] = "iga-nerf-tiny"
    """Which preset."""
    max_num_iterations: int = 3000
    """Training steps; the learning rate falls to a tenth over them."""
    downscale_factor: int = 1
    """Shrink images by this whole number."""
    test_skip: int = 1
    """Evaluate every that many test views."""
    seeds: tuple[int, ...] = (42,)
    """One pair of runs per seed."""
    runs: Path = Path("outputs/bench")
    """Folder of the runs; finished ones are not trained again."""
    output: Path = RESULTS / "nerf_pair.json"
    """File to write."""

    def measure(self) -> dict[str, Any]:
        """Run the measurement."""
        from iga_nerfstudio.benchmark.nerf_pair import measure_nerf_pair

        return measure_nerf_pair(
            self.data,
            self.method,
            self.max_num_iterations,
            self.downscale_factor,
            self.test_skip,
            self.seeds,
            self.runs,
        )


@dataclass
class Report:
    """Generate docs/measurements.md from the results."""

    results: Path = RESULTS
    """Folder of result files."""
    output: Path = Path("docs/measurements.md")
    """Page to write."""


def main() -> None:
    """Entry point of ``iga-bench``."""
    console = Console()
    chosen = tyro.extras.subcommand_cli_from_dict(
        {"kernel": Kernel, "nerf-step": NerfStep, "nerf-pair": NerfPair, "report": Report}, description=__doc__
    )
    try:
        if isinstance(chosen, Report):
            write_report(chosen.results, chosen.output)
        else:
            figures = chosen.measure()
            write_result(chosen.output, figures)
            console.print(figures)
    except (ValueError, CommandError) as error:
        console.print(f"iga-bench: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(2)
    console.print(f"Written to {chosen.output}")
