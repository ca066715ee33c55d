"""``iga-bench``: one subcommand per measurement; each prints its figures and writes them as JSON."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import tyro
from rich.console import Console
from rich.markdown import Markdown

from iga_nerfstudio.allocator import reuse_host_memory
from iga_nerfstudio.benchmark.ablations_page import ablations_table
from iga_nerfstudio.benchmark.balance_page import balance_table
from iga_nerfstudio.benchmark.blender_page import blender_table
from iga_nerfstudio.benchmark.cost_page import options_table, scaling_table, step_table
from iga_nerfstudio.benchmark.experiments_page import experiment1_table, experiment2_table
from iga_nerfstudio.benchmark.options import OptionName
from iga_nerfstudio.benchmark.peers import Peer, Size
from iga_nerfstudio.benchmark.rays_page import rays_table
from iga_nerfstudio.benchmark.rays_variants import VariantName
from iga_nerfstudio.benchmark.record import write_result
from iga_nerfstudio.benchmark.report import write_report
from iga_nerfstudio.benchmark.tables_page import images_table, nerf_table, shapes_table
from iga_nerfstudio.benchmark.workloads import Device, Workload
from iga_nerfstudio.devices import default_device
from iga_nerfstudio.nerf.commands import CommandError
from iga_nerfstudio.networks.builder import NetworkKind

RESULTS = Path("benchmarks/results")
Budget = Literal["smoke", "cpu", "full"]
AnySize = TypeVar("AnySize", bound=Any)


def resized(size: AnySize, **given: Any) -> AnySize:
    """A budget's size with what is given in place of its own.

    Args:
        size: The budget's, a dataclass.
        given: Fields and their values; None leaves the budget's.
    """
    return replace(size, **{name: value for name, value in given.items() if value is not None})


def device_of(budget: Budget) -> Device:
    """Where a budget trains: smaller ones on cores of the CPU, the paper's sizes on a GPU where there is one."""
    return default_device() if budget == "full" else "cpu"


def jobs_on(device: Device) -> int:
    """Trainings at once if not said otherwise: two on a CPU, one thread each, and one on a GPU."""
    return 1 if device == "cuda" else 2


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
class Step:
    """Adjusted training steps over plain ones and over the Jacobian route, for every kind of task."""

    workloads: tuple[Workload, ...] | None = None
    """What to train; everything if not given, but on a CPU without nerf-n4096, which takes 20 GB and minutes a step."""
    rounds: int = 9
    """Timed rounds at least; short steps get more."""
    quick: bool = False
    """Three rounds, and no Jacobian route."""
    device: Device | None = None
    """Where to compute; the GPU where there is one if not given."""
    seed: int = 0
    """Seed of networks and data."""
    output: Path = RESULTS / "step.json"
    """File to write."""

    def measure(self) -> dict[str, Any]:
        """Run the measurement."""
        from iga_nerfstudio.benchmark.step import measure_steps
        from iga_nerfstudio.benchmark.workloads import BUILDERS

        device = self.device or default_device()
        workloads = self.workloads
        if workloads is None:
            workloads = tuple(name for name in BUILDERS if device == "cuda" or name != "nerf-n4096")
        rounds = 3 if self.quick else self.rounds
        return measure_steps(workloads, rounds, device, self.seed, reference=not self.quick)


@dataclass
class Scaling:
    """Time and memory of the adjustment as the number of groups grows."""

    sizes: tuple[int, ...] = (256, 512, 1024, 2048, 4096, 8192)
    """Numbers of groups, n."""
    end: int = 25
    """Last balanced eigenvalue."""
    rounds: int = 5
    """Timed rounds."""
    device: Device | None = None
    """Where to compute; the GPU where there is one if not given."""
    seed: int = 0
    """Seed of networks and points."""
    output: Path = RESULTS / "scaling.json"
    """File to write."""

    def measure(self) -> dict[str, Any]:
        """Run the measurement."""
        from iga_nerfstudio.benchmark.scaling import measure_scaling

        return measure_scaling(self.sizes, self.end, self.rounds, self.device or default_device(), self.seed)


@dataclass
class NerfPair:
    """A Blender scene by ns-train and ns-eval with and without the adjustment, same seeds (Tables 3 and 14)."""

    data: Path
    """The scene's folder."""
    budget: Budget = "cpu"
    """A minute, a small network that two CPU cores can train, or the paper's. Options below override its values."""
    method: Literal["iga-nerf", "iga-nerf-tiny"] | None = None
    """Which preset."""
    max_num_iterations: int | None = None
    """Training steps; the learning rate falls to a tenth over them."""
    downscale_factor: int | None = None
    """Shrink images by this whole number."""
    test_skip: int | None = None
    """Evaluate every that many test views."""
    seeds: tuple[int, ...] | None = None
    """One pair of runs per seed."""
    runs: Path = Path("outputs/bench")
    """Folder of the runs; finished ones are not trained again."""
    output: Path = RESULTS / "nerf_pair.json"
    """File to write."""

    def measure(self) -> dict[str, Any]:
        """Run the measurement."""
        from iga_nerfstudio.benchmark.nerf_pair import SIZES, measure_nerf_pair

        size = resized(
            SIZES[self.budget],
            method=self.method,
            num_iterations=self.max_num_iterations,
            downscale_factor=self.downscale_factor,
            test_skip=self.test_skip,
            seeds=self.seeds,
        )
        if self.max_num_iterations is not None:
            size = replace(size, decay_steps=None)
        return {"budget": self.budget} | measure_nerf_pair(self.data, size, self.runs)


@dataclass
class Images:
    """Every network on photographs: plain, IGA, FR and BN (Tables 1, 5 and 8 to 11)."""

    data: Path
    """Folder of the images, <name>.png."""
    budget: Budget = "cpu"
    """A minute; two CPU cores in some hours at smaller sizes, under Adam and Muon, each at the better of two rates; or
    the paper's sizes, Adam and rates. Options below override its values."""
    images: tuple[str, ...] | None = None
    """Names; rates are chosen on the first."""
    max_side: int | None = None
    """Shrink images to that many pixels."""
    hidden_dim: int | None = None
    """Width of the networks."""
    max_num_iterations: int | None = None
    """Training steps."""
    seed: int | None = None
    """Seed of the networks."""
    networks: tuple[NetworkKind, ...] | None = None
    """Networks to train, of relu, pe, siren, gauss_finer, wire_finer and finer."""
    variants: tuple[Literal["plain", "iga", "iga_mean", "fr", "bn"], ...] | None = None
    """Plain, IGA, IGA with the mean of 4 points, and the baselines, for the networks that they are defined for."""
    optimizers: tuple[Literal["adam", "muon"], ...] | None = None
    """Optimisers to train with."""
    jobs: int | None = None
    """Trainings at once, one CPU thread each; two, or one on a GPU, if not given."""
    lpips_backbone: Path | None = None
    """AlexNet weights for LPIPS; torch's cache, or a download, if not given."""
    runs: Path = Path("outputs/bench/images")
    """Folder of the trainings; finished ones are not repeated."""
    output: Path = RESULTS / "images.json"
    """File to write."""

    def measure(self) -> dict[str, Any]:
        """Run the measurement."""
        from iga_nerfstudio.benchmark.images import SIZES, measure_images

        device = device_of(self.budget)
        size = resized(
            SIZES[self.budget],
            images=self.images,
            max_side=self.max_side,
            hidden_dim=self.hidden_dim,
            num_iterations=self.max_num_iterations,
            networks=self.networks,
            variants=self.variants,
            optimizers=self.optimizers,
            seed=self.seed,
            device=device,
            lpips_backbone=None if self.lpips_backbone is None else str(self.lpips_backbone),
        )
        jobs = jobs_on(device) if self.jobs is None else self.jobs
        return {"budget": self.budget} | measure_images(self.data, size, self.runs, jobs)


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
    lr: float | None = None
    """Learning rate of both; that of iga-image if not given."""
    schedule: Literal["cosine", "step"] = "cosine"
    """How it falls: as in iga-image, or as in the paper."""
    end: int | None = None
    """Last balanced eigenvalue; the automatic balance of iga-image if not given."""
    representative: Literal["largest_residual", "previous_residual"] = "previous_residual"
    """Which pixel stands for its patch; that of the previous residual spares steps in chunks a forward pass."""
    points_per_chunk: int | None = None
    """Pixels whose activations are held at once."""
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
        from iga_nerfstudio.tasks.config import MachineConfig, OptimizerConfig, ScheduleConfig, TaskAdjustmentConfig
        from iga_nerfstudio.tasks.image import ImageConfig

        optimization = (self.optimizer, self.lr, self.schedule, self.max_num_iterations)
        distinguishing = (self.data.stem, self.network, *optimization, self.end, self.representative)
        config = ImageConfig(
            data=self.data,
            output_dir=self.runs,
            experiment_name="-".join(map(str, distinguishing)),
            max_num_iterations=self.max_num_iterations,
            steps_per_eval=max(self.max_num_iterations // 10, 1),
            network=NetworkConfig(self.network),
            adjustment=TaskAdjustmentConfig(end=self.end, representative=self.representative),
            optimizer=OptimizerConfig(self.optimizer, self.lr),
            schedule=ScheduleConfig(self.schedule),
            machine=MachineConfig(self.seed, points_per_chunk=self.points_per_chunk),
            lpips_backbone=self.lpips_backbone,
            lpips_parity=True,
        )
        return measure_image_pair(config)


@dataclass
class Shapes:
    """Meshes fitted with and without the adjustment: IoU, Chamfer distance, meshes (Tables 2, 12 and 13)."""

    data: Path
    """Folder of the meshes, <name>.ply."""
    budget: Budget = "cpu"
    """A minute, two CPU cores in an hour at smaller sizes, or the paper's sizes. Options below override its values."""
    shapes: tuple[str, ...] | None = None
    """Names; those of the budget that are in the folder if not given."""
    networks: tuple[NetworkKind, ...] | None = None
    """Networks to train."""
    resolution: int | None = None
    """Voxels along each side of the bounding cube."""
    hidden_dim: int | None = None
    """Width of the networks."""
    groups_per_batch: int | None = None
    """Groups per step; of 64 voxels, or 256 at the other budgets."""
    max_num_iterations: int | None = None
    """Training steps."""
    optimizer: Literal["adam", "muon"] | None = None
    """Optimiser of all."""
    seed: int | None = None
    """Seed of networks and batches."""
    jobs: int = 1
    """Trainings at once, one CPU thread each."""
    runs: Path = Path("outputs/bench/shapes")
    """Folder of the trainings; finished ones are not repeated."""
    output: Path = RESULTS / "shapes.json"
    """File to write."""

    def measure(self) -> dict[str, Any]:
        """Run the measurement."""
        from iga_nerfstudio.benchmark.shapes import SIZES, measure_shapes, shapes_at_hand

        size = resized(
            SIZES[self.budget],
            shapes=self.shapes,
            networks=self.networks,
            resolution=self.resolution,
            hidden_dim=self.hidden_dim,
            groups_per_batch=self.groups_per_batch,
            num_iterations=self.max_num_iterations,
            optimizer=self.optimizer,
            seed=self.seed,
            device=device_of(self.budget),
        )
        if self.max_num_iterations is not None:
            size = replace(size, num_epochs=None)
        if self.shapes is None:
            size = shapes_at_hand(self.data, size)
        return {"budget": self.budget} | measure_shapes(self.data, size, self.runs, self.jobs)


@dataclass
class Options:
    """What every way to save time does to the result: gradient against float64, PSNR against the slow way."""

    data: Path
    """The image to fit."""
    networks: tuple[NetworkKind, ...] = ("pe", "siren")
    """Networks to train."""
    options: tuple[OptionName, ...] = get_args(OptionName)
    """What to measure."""
    max_side: int = 96
    """Shrink the image to that many pixels."""
    hidden_dim: int = 64
    """Width of the networks."""
    max_num_iterations: int = 300
    """Training steps."""
    optimizer: Literal["adam", "muon"] = "adam"
    """Optimiser of all."""
    seeds: tuple[int, ...] = (42, 43, 44)
    """One training per seed and option."""
    device: Device | None = None
    """Where to compute; the GPU where there is one if not given."""
    output: Path = RESULTS / "options.json"
    """File to write."""

    def measure(self) -> dict[str, Any]:
        """Run the measurement."""
        from iga_nerfstudio.benchmark.options import OptionsSize, measure_options

        size = OptionsSize(
            self.max_side,
            self.hidden_dim,
            self.max_num_iterations,
            self.optimizer,
            self.seeds,
            self.device or default_device(),
        )
        return measure_options(self.data, self.networks, self.options, size)


@dataclass
class Blender:
    """Blender scenes by every method, trained and evaluated through nerfstudio in one protocol."""

    data: Path
    """Folder of the scenes."""
    scenes: tuple[str, ...] = ()
    """Names of scenes; all of the folder's if not given."""
    methods: tuple[Peer, ...] = get_args(Peer)
    """What to train. What cannot run on this machine is listed with the reason."""
    steps: int | None = None
    """Budget: training steps ..."""
    seconds: float | None = None
    """... or seconds in training steps, one of the two. Schedules are stretched over them."""
    size: Size = "own"
    """Networks and batches of each method's own size, or small ones that two CPU cores can train."""
    downscale_factor: int = 2
    """Shrink images by this whole number."""
    test_skip: int = 8
    """Evaluate every that many test views."""
    curve_points: int = 5
    """How often the test views are rendered during training, for the learning curves."""
    seed: int = 42
    """Seed of every training."""
    device: Device | None = None
    """Where to compute; the GPU where there is one if not given."""
    lpips_backbone: Path | None = None
    """AlexNet weights for LPIPS; torch's cache, or a download, if not given."""
    runs: Path = Path("outputs/bench/blender")
    """Folder of the runs; finished ones are not repeated."""
    output: Path = RESULTS / "blender.json"
    """File to write."""

    def measure(self) -> dict[str, Any]:
        """Run the measurement."""
        from iga_nerfstudio.benchmark.blender import Protocol, measure_blender

        protocol = Protocol(
            self.downscale_factor,
            self.test_skip,
            self.steps,
            self.seconds,
            self.size,
            self.curve_points,
            self.seed,
            self.device or default_device(),
            None if self.lpips_backbone is None else str(self.lpips_backbone),
        )
        return measure_blender(self.data, self.scenes, self.methods, protocol, self.runs)


@dataclass
class Rays:
    """What the kernel of a batch of rays should be of: a small NeRF with every choice, under Adam and Muon."""

    data: Path
    """The scene's folder."""
    variants: tuple[VariantName, ...] = get_args(VariantName)
    """What to train beside the plain NeRF."""
    optimizers: tuple[Literal["adam", "muon"], ...] = ("adam", "muon")
    """Optimisers to train with."""
    seeds: tuple[int, ...] = (42, 43, 44)
    """One training of each per seed."""
    downscale_factor: int = 8
    """Shrink images by this whole number."""
    test_skip: int = 3
    """Evaluate every that many test views."""
    num_rays: int = 256
    """Rays of a step."""
    num_layers: int = 3
    """Layers of each field's trunk."""
    hidden_dim: int = 64
    """Their width."""
    max_num_iterations: int = 1500
    """Training steps; learning rates fall to 3 percent over them."""
    curve_points: int = 5
    """How often the test views are rendered."""
    rounds: int = 15
    """Timed rounds of steps, for the cost of a step."""
    jobs: int = 2
    """Trainings at once, one CPU thread each."""
    runs: Path = Path("outputs/bench/rays")
    """Folder of the trainings; finished ones are not repeated."""
    output: Path = RESULTS / "rays.json"
    """File to write."""

    def measure(self) -> dict[str, Any]:
        """Run the measurement."""
        from iga_nerfstudio.benchmark.rays import RaysSize, measure_rays

        size = RaysSize(
            self.downscale_factor,
            self.test_skip,
            self.num_rays,
            self.num_layers,
            self.hidden_dim,
            self.max_num_iterations,
            self.curve_points,
        )
        return measure_rays(
            self.data, self.variants, self.optimizers, self.seeds, size, self.rounds, self.runs, self.jobs
        )


@dataclass
class ViewerCost:
    """Steps of iga-nerf-tiny without a viewer, with one that nobody looks at, and with the panel's plots updating."""

    steps: int = 100
    """Steps of a block; the three take turns block by block."""
    rounds: int = 9
    """Timed rounds."""
    device: Device | None = None
    """Where to compute; the GPU where there is one if not given."""
    seed: int = 0
    """Seed of networks and rays."""
    output: Path = RESULTS / "viewer.json"
    """File to write."""

    def measure(self) -> dict[str, Any]:
        """Run the measurement."""
        from iga_nerfstudio.benchmark.viewer import measure_viewer

        return measure_viewer(self.steps, self.rounds, self.device or default_device(), self.seed)


@dataclass
class Experiment1:
    """The paper's first experiment: NTK, eNTK and inductive adjustments of a two-layer network."""

    budget: Budget = "cpu"
    """A minute, two CPU cores in under an hour at smaller sizes, or the paper's sizes."""
    jobs: int = 2
    """Trainings at once, one CPU thread each."""
    runs: Path = Path("outputs/bench/experiment1")
    """Folder of the trainings; finished ones are not repeated."""
    output: Path = RESULTS / "experiment1.json"
    """File to write."""

    def measure(self) -> dict[str, Any]:
        """Run the measurement."""
        from iga_nerfstudio.benchmark.experiment1 import SIZES, measure_experiment1

        return {"budget": self.budget} | measure_experiment1(SIZES[self.budget], self.runs, self.jobs)


@dataclass
class Experiment2:
    """The paper's second experiment: ReLU and SIREN on six tones, more and more balanced eigenvalues."""

    budget: Budget = "cpu"
    """A minute, two CPU cores in under an hour at smaller sizes, or the paper's sizes."""
    jobs: int = 2
    """Trainings at once, one CPU thread each."""
    runs: Path = Path("outputs/bench/experiment2")
    """Folder of the trainings; finished ones are not repeated."""
    output: Path = RESULTS / "experiment2.json"
    """File to write."""

    def measure(self) -> dict[str, Any]:
        """Run the measurement."""
        from iga_nerfstudio.benchmark.experiment2 import SIZES, measure_experiment2

        return {"budget": self.budget} | measure_experiment2(SIZES[self.budget], self.runs, self.jobs)


@dataclass
class Ablations:
    """The paper's ablations on photographs: representatives and group sizes."""

    data: Path
    """Folder of the images, <name>.png."""
    budget: Budget = "cpu"
    """A minute, two CPU cores in under an hour at smaller sizes, or the paper's sizes."""
    jobs: int | None = None
    """Trainings at once, one CPU thread each; two, or one on a GPU, if not given."""
    runs: Path = Path("outputs/bench/ablations")
    """Folder of the trainings; finished ones are not repeated."""
    output: Path = RESULTS / "ablations.json"
    """File to write."""

    def measure(self) -> dict[str, Any]:
        """Run the measurement."""
        from iga_nerfstudio.benchmark.ablations import SIZES, measure_ablations

        device = device_of(self.budget)
        jobs = jobs_on(device) if self.jobs is None else self.jobs
        size = replace(SIZES[self.budget], device=device)
        return {"budget": self.budget} | measure_ablations(self.data, size, self.runs, jobs)


@dataclass
class Balance:
    """How to balance under Adam and Muon: chosen on some photographs, judged on others."""

    data: Path
    """Folder of the images, <name>.png."""
    budget: Budget = "cpu"
    """A minute, two CPU cores in under an hour at smaller sizes, or the paper's sizes."""
    jobs: int | None = None
    """Trainings at once, one CPU thread each; two, or one on a GPU, if not given."""
    runs: Path = Path("outputs/bench/balance")
    """Folder of the trainings; finished ones are not repeated."""
    output: Path = RESULTS / "balance.json"
    """File to write."""

    def measure(self) -> dict[str, Any]:
        """Run the measurement."""
        from iga_nerfstudio.benchmark.balance import SIZES, measure_balance

        device = device_of(self.budget)
        jobs = jobs_on(device) if self.jobs is None else self.jobs
        return {"budget": self.budget} | measure_balance(self.data, SIZES[self.budget], device, self.runs, jobs)


@dataclass
class All:
    """Every experiment of the paper, at one budget."""

    data: Path
    """Folder of the images, <name>.png."""
    meshes: Path | None = None
    """Folder of the meshes, <name>.ply; shapes are left out if not given."""
    scene: Path | None = None
    """Folder of a Blender scene; NeRFs are left out if not given."""
    budget: Budget = "cpu"
    """A minute, two CPU cores in most of a day at smaller sizes, or the paper's sizes."""
    jobs: int | None = None
    """Trainings of signals and images at once, one CPU thread each; two, or one of images on a GPU, if not given."""
    lpips_backbone: Path | None = None
    """AlexNet weights for LPIPS; torch's cache, or a download, if not given."""
    runs: Path = Path("outputs/bench")
    """Folder of the trainings; finished ones are not repeated."""
    output: Path = RESULTS
    """Folder of the files to write."""

    def parts(self) -> tuple[Any, ...]:
        """The commands."""
        jobs = jobs_on("cpu") if self.jobs is None else self.jobs
        parts: dict[str, Any] = {
            "experiment1": Experiment1(self.budget, jobs),
            "experiment2": Experiment2(self.budget, jobs),
            "ablations": Ablations(self.data, self.budget, self.jobs),
            "images": Images(self.data, self.budget, jobs=self.jobs, lpips_backbone=self.lpips_backbone),
            "balance": Balance(self.data, self.budget, self.jobs),
        }
        if self.meshes is not None:
            parts["shapes"] = Shapes(self.meshes, self.budget)
        if self.scene is not None:
            parts["nerf_pair"] = NerfPair(self.scene, self.budget)
        # nerfstudio sorts runs by scene and method itself.
        folders = {"nerf_pair": self.runs}
        return tuple(
            replace(part, runs=folders.get(name, self.runs / name), output=self.output / f"{name}.json")
            for name, part in parts.items()
        )

    def left_out(self) -> tuple[str, ...]:
        """What is not run, and why."""
        missing = {"shapes (no --meshes given)": self.meshes, "nerf-pair (no --scene given)": self.scene}
        return tuple(reason for reason, place in missing.items() if place is None)


@dataclass
class Report:
    """Generate the pages under docs/ from the results."""

    results: Path = RESULTS
    """Folder of result files."""
    output: Path = Path("docs")
    """Folder of the pages."""


COMMANDS: dict[str, Any] = {
    "kernel": Kernel,
    "step": Step,
    "scaling": Scaling,
    "nerf-pair": NerfPair,
    "images": Images,
    "image-pair": ImagePair,
    "muon-step": MuonStep,
    "shapes": Shapes,
    "options": Options,
    "blender": Blender,
    "rays": Rays,
    "viewer": ViewerCost,
    "experiment1": Experiment1,
    "experiment2": Experiment2,
    "ablations": Ablations,
    "balance": Balance,
    "all": All,
    "report": Report,
}

# Measurements that are read as a table.
TABLES: dict[type, Callable[[dict[str, Any]], str]] = {
    Step: step_table,
    Scaling: scaling_table,
    Options: options_table,
    Blender: blender_table,
    Rays: rays_table,
    Experiment1: experiment1_table,
    Experiment2: experiment2_table,
    Ablations: ablations_table,
    Balance: balance_table,
    Images: images_table,
    Shapes: shapes_table,
    NerfPair: nerf_table,
}


def _parts(chosen: Any) -> tuple[Any, ...]:
    """The measurements of a command."""
    if isinstance(chosen, Report):
        return ()
    return chosen.parts() if isinstance(chosen, All) else (chosen,)


def main() -> None:
    """Entry point of ``iga-bench``."""
    reuse_host_memory()
    console = Console()
    chosen = tyro.extras.subcommand_cli_from_dict(COMMANDS, description=__doc__)
    try:
        if isinstance(chosen, Report):
            write_report(chosen.results, chosen.output)
        for part in _parts(chosen):
            figures = part.measure()
            write_result(part.output, figures)
            table = TABLES.get(type(part))
            console.print(figures if table is None else Markdown(table(figures)))
        if isinstance(chosen, All):
            for reason in chosen.left_out():
                console.print(f"not run: {reason}", markup=False, soft_wrap=True)
    except (ValueError, CommandError) as error:
        console.print(f"iga-bench: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(2)
    console.print(f"Written to {chosen.output}")
