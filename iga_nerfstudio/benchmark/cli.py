"""``iga-bench``: one subcommand per measurement; each prints its figures and writes them as JSON."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro
from rich.console import Console

from iga_nerfstudio.allocator import reuse_host_memory
from iga_nerfstudio.benchmark.record import write_result
from iga_nerfstudio.benchmark.report import write_report
from iga_nerfstudio.nerf.commands import CommandError, default_device
from iga_nerfstudio.networks.builder import NetworkKind

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
class Images:
    """Every network on photographs: plain, IGA, FR, BN, under Adam and Muon, each at the better of two rates."""

    data: Path
    """Folder of the images, <name>.png."""
    images: tuple[str, ...] = ("kodim01", "kodim02", "kodim03")
    """Names; rates are chosen on the first."""
    max_side: int = 192
    """Shrink images to that many pixels."""
    hidden_dim: int = 64
    """Width of the networks."""
    max_num_iterations: int = 1500
    """Training steps."""
    seed: int = 42
    """Seed of the networks."""
    networks: tuple[NetworkKind, ...] = ("relu", "pe", "siren", "gauss_finer", "wire_finer", "finer")
    """Networks to train."""
    variants: tuple[Literal["plain", "iga", "iga_mean", "fr", "bn"], ...] = ("plain", "iga", "iga_mean", "fr", "bn")
    """Plain, IGA, IGA with the mean of 4 points, and the baselines, for the networks that they are defined for."""
    optimizers: tuple[Literal["adam", "muon"], ...] = ("adam", "muon")
    """Optimisers to train with."""
    jobs: int = 2
    """Trainings at once, one CPU thread each."""
    lpips_backbone: Path | None = None
    """AlexNet weights for LPIPS; torch's cache, or a download, if not given."""
    runs: Path = Path("outputs/bench/images")
    """Folder of the trainings; finished ones are not repeated."""
    output: Path = RESULTS / "images.json"
    """File to write."""

    def measure(self) -> dict[str, Any]:
        """Run the measurement."""
        from iga_nerfstudio.benchmark.images import Size, measure_images

        backbone = None if self.lpips_backbone is None else str(self.lpips_backbone)
        size = Size(self.max_side, self.hidden_dim, self.max_num_iterations, self.seed, backbone)
        return measure_images(
            self.data, self.images, size, self.networks, self.variants, self.optimizers, self.runs, self.jobs
        )


@dataclass
class ImageStep:
    """One adjusted training step of an image over one plain step, timed alternately."""

    side: int = 256
    """Side of the image in pixels."""
    patch_size: int = 16
    """Side of a patch."""
    network: NetworkKind = "pe"
    """Architecture, 3 x 256."""
    optimizer: Literal["adam", "muon"] = "adam"
    """Optimiser of both."""
    rounds: int = 15
    """Timed rounds."""
    device: Literal["cpu", "cuda"] | None = None
    """Where to compute; the GPU where there is one if not given."""
    seed: int = 0
    """Seed of networks and image."""
    output: Path = RESULTS / "image_step.json"
    """File to write."""

    def measure(self) -> dict[str, Any]:
        """Run the measurement."""
        from iga_nerfstudio.benchmark.image_step import measure_image_step
        from iga_nerfstudio.tasks.config import OptimizerConfig

        optimizer = OptimizerConfig(self.optimizer)
        device = self.device or default_device()
        return measure_image_step(self.side, self.patch_size, self.network, optimizer, self.rounds, device, self.seed)


@dataclass
class MuonStep:
    """A step of MuonWithAdam (float32) and one of torch.optim.Muon (bfloat16) on one matrix, timed alternately."""

    width: int = 256
    """Side of the matrix."""
    rounds: int = 15
    """Timed rounds."""
    device: Literal["cpu", "cuda"] | None = None
    """Where to compute; the GPU where there is one if not given."""
    seed: int = 0
    """Seed of the gradient."""
    output: Path = RESULTS / "muon_step.json"
    """File to write."""

    def measure(self) -> dict[str, Any]:
        """Run the measurement."""
        from iga_nerfstudio.benchmark.muon_step import measure_muon_step

        return measure_muon_step(self.width, self.rounds, self.device or default_device(), self.seed)


@dataclass
class ImagePair:
    """One image fitted by iga-image with and without the adjustment: metrics, seconds, peak memory."""

    data: Path
    """The image."""
    max_num_iterations: int = 200
    """Training steps."""
    network: NetworkKind = "pe"
    """Architecture, 3 x 256."""
    optimizer: Literal["adam", "muon"] = "muon"
    """Optimiser of both."""
    points_per_chunk: int | None = None
    """Pixels that go through the network at once."""
    lpips_backbone: Path | None = None
    """AlexNet weights for LPIPS; torch's cache, or a download, if not given."""
    seed: int = 42
    """Seed of the networks."""
    runs: Path = Path("outputs/bench")
    """Folder of the runs; finished ones are not repeated."""
    output: Path = RESULTS / "image_pair.json"
    """File to write."""

    def measure(self) -> dict[str, Any]:
        """Run the measurement."""
        from iga_nerfstudio.benchmark.image_pair import measure_image_pair
        from iga_nerfstudio.networks import NetworkConfig
        from iga_nerfstudio.tasks.config import MachineConfig, OptimizerConfig
        from iga_nerfstudio.tasks.image import ImageConfig

        config = ImageConfig(
            data=self.data,
            output_dir=self.runs,
            experiment_name=f"{self.data.stem}-{self.network}-{self.optimizer}-{self.max_num_iterations}",
            max_num_iterations=self.max_num_iterations,
            steps_per_eval=max(self.max_num_iterations // 10, 1),
            network=NetworkConfig(self.network),
            optimizer=OptimizerConfig(self.optimizer),
            machine=MachineConfig(self.seed, points_per_chunk=self.points_per_chunk),
            lpips_backbone=self.lpips_backbone,
            lpips_parity=True,
        )
        return measure_image_pair(config)


@dataclass
class Shapes:
    """Meshes fitted with and without the adjustment: IoU, Chamfer distance, meshes."""

    data: Path
    """Folder of the meshes, <name>.ply."""
    shapes: tuple[str, ...] = ("bunny", "armadillo", "lucy")
    """Names."""
    networks: tuple[NetworkKind, ...] = ("relu", "pe", "siren")
    """Networks to train."""
    resolution: int = 128
    """Voxels along each side of the bounding cube."""
    hidden_dim: int = 128
    """Width of the networks."""
    groups_per_batch: int = 128
    """Groups of 256 voxels per step."""
    max_num_iterations: int = 400
    """Training steps."""
    optimizer: Literal["adam", "muon"] = "muon"
    """Optimiser of all."""
    seed: int = 42
    """Seed of networks and batches."""
    runs: Path = Path("outputs/bench/shapes")
    """Folder of the trainings; finished ones are not repeated."""
    output: Path = RESULTS / "shapes.json"
    """File to write."""

    def measure(self) -> dict[str, Any]:
        """Run the measurement."""
        from iga_nerfstudio.benchmark.shapes import ShapeSize, measure_shapes

        size = ShapeSize(
            self.resolution,
            self.hidden_dim,
            self.groups_per_batch,
            self.max_num_iterations,
            self.optimizer,
            self.seed,
        )
        return measure_shapes(self.data, self.shapes, self.networks, size, self.runs)


@dataclass
class Report:
    """Generate docs/measurements.md from the results."""

    results: Path = RESULTS
    """Folder of result files."""
    output: Path = Path("docs/measurements.md")
    """Page to write."""


COMMANDS: dict[str, Any] = {
    "kernel": Kernel,
    "nerf-step": NerfStep,
    "nerf-pair": NerfPair,
    "images": Images,
    "image-step": ImageStep,
    "image-pair": ImagePair,
    "muon-step": MuonStep,
    "shapes": Shapes,
    "report": Report,
}


def main() -> None:
    """Entry point of ``iga-bench``."""
    reuse_host_memory()
    console = Console()
    chosen = tyro.extras.subcommand_cli_from_dict(COMMANDS, description=__doc__)
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
