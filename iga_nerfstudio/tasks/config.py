"""Settings of images, shapes and signals: no need of torch to read them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from iga_nerfstudio.arguments import expand_homes
from iga_nerfstudio.data.kinds import PaperSignal, ShapeTarget
from iga_nerfstudio.settings import AdjustmentSettings, NetworkConfig


@dataclass
class TaskAdjustmentConfig(AdjustmentSettings):
    """How the gradient is adjusted."""

    representative: (
        Literal["largest_residual", "previous_residual", "all_maxima", "random", "random_once", "middle", "mean"] | None
    ) = None
    """Which point stands for its group: that of largest residual, now (the paper's) or at the step before (full batches
    only), a random or fixed one, or the mean of num_representatives drawn ones. all_maxima is the mean of the places
    where any group's residual is largest, as in the authors' code for images. If not given, largest_residual, but
    previous_residual for full batches in chunks, whose residuals of now take another forward pass."""


@dataclass
class OptimizerConfig:
    """What turns gradients into steps."""

    kind: Literal["muon", "adam", "soap", "sgd"] = "muon"
    """Muon on weight matrices with Adam on the rest, Adam, SOAP (from the package pytorch-optimizer), or plain gradient
    descent."""
    lr: float | None = None
    """Learning rate; one that suits the optimiser and the network if not given."""
    adam_lr: float | None = None
    """Muon only: learning rate of biases and of what else Adam steps; one that suits the network if not given."""
    first_layer: Literal["adam", "muon"] = field(default="adam", metadata={"earlier": "muon"})
    """Muon only: what steps the weights of a layer that positions go into as they are, without an encoding."""
    momentum: float | None = None
    """Momentum of muon (0.95 if not given) and sgd (0 if not given)."""


@dataclass
class ScheduleConfig:
    """How the learning rate falls."""

    kind: Literal["cosine", "step", "exponential", "constant"] = "cosine"
    """To nothing along half a wave of cosine, all at once (the paper's, for images), by the same share at every step
    (the paper's, for shapes), or not at all."""
    factor: float = 0.1
    """What a step or exponential schedule falls to, relative to where it starts."""
    drop_at: float = 0.3
    """When a step schedule drops, as a share of the run."""


@dataclass
class MachineConfig:
    """Where and how to compute."""

    seed: int = 42
    """Seed of initialisation, batches and representatives."""
    device_type: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Device; auto takes a CUDA GPU where there is one."""
    mixed_precision: bool = False
    """Run the network in bfloat16 in training. Loss, kernel and weights stay in float32. Networks of sines lose by it:
    1.7 dB for SIREN in a short run."""
    compile: bool = False
    """Run the network through torch.compile in training; the first steps then take a minute. Needs a C++ compiler on a
    CPU, Triton on a GPU."""
    points_per_chunk: int | None = None
    """Points whose activations are held at once; steps on more are taken in chunks, with the same gradient and less
    memory. If not given, 131,072 on a CPU, else 524,288, for layers of 256 units, and more for narrower ones."""


@dataclass
class TaskConfig:
    """A run: what all tasks have in common."""

    task: ClassVar[str]
    """Name of the task and its command."""
    num_evaluations: ClassVar[int] = 50
    """Evaluations in a run where nothing else is asked for."""
    fitted: ClassVar[tuple[str, ...]] = ()
    """Settings that say what of the data is fitted: a run keeps them."""

    data: Path | None = None
    """File to fit."""
    config: str | None = None
    """Preset: its name, or a YAML file. Options beside it override its values."""
    output_dir: Path = Path("outputs")
    """Runs are written to <output-dir>/<experiment-name>/<task>/<timestamp>."""
    experiment_name: str | None = None
    """Name of the experiment; that of the data if not given."""
    timestamp: str | None = None
    """Name of the run; the time if not given."""
    load_dir: Path | None = None
    """A run to continue, in its own folder and with its own settings; options beside it override those."""
    compare: bool = False
    """Train the plain run too, in the folder plain of the run's own, and show both in one report."""
    max_num_iterations: int = 2000
    """Training steps."""
    steps_per_log: int | None = None
    """Steps between points of the training curves; if not given, 10, or less in a run of fewer than 500 steps."""
    steps_per_eval: int | None = None
    """Steps between evaluations on all of the data, of which the best one's model is kept; if not given, 50 in a run,
    20 for a shape, whose grid takes longer."""
    steps_per_save: int = 500
    """Steps between checkpoints."""
    save_only_latest_checkpoint: bool = True
    """Delete older checkpoints once a newer one is written."""
    vis: Literal["tensorboard", "none"] = "tensorboard"
    """Where training curves go besides metrics.json."""
    network: NetworkConfig = field(default_factory=NetworkConfig)
    """The coordinate network."""
    first_output: Literal["mean", "drawn"] | None = field(default=None, metadata={"earlier": "drawn"})
    """What the network gives before its first step: nearly the mean of the data everywhere, or what its weights as they
    are drawn make of the coordinates. From there the first steps all go to the mean, and what that does to the layers
    stays (docs/results/balance.md). If not given, mean for images, and for signals but the paper's by networks of
    sines, Gaussians and wavelets, else drawn."""
    adjustment: TaskAdjustmentConfig = field(default_factory=TaskAdjustmentConfig)
    """The gradient adjustment."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """The optimiser."""
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    """The learning rate's schedule."""
    machine: MachineConfig = field(default_factory=MachineConfig)
    """Device, seed, precision, memory."""

    def __post_init__(self) -> None:
        expand_homes(self)

    def name_of_data(self) -> str:
        """What to call an experiment that has no name of its own."""
        return "unnamed" if self.data is None else self.data.stem


@dataclass
class ImageConfig(TaskConfig):
    """Fit an image with a coordinate network."""

    task: ClassVar[str] = "iga-image"
    fitted: ClassVar[tuple[str, ...]] = ("crop", "size", "max_side")

    data: Path | None = None
    """Picture to fit: a PNG, JPEG, TIFF, WebP, BMP or GIF file, of 8 or 16 bits, grey or colour."""
    crop: tuple[int, int, int, int] | None = None
    """Part of the picture: left, top, width, height in pixels."""
    size: tuple[int, int] | None = None
    """Resize to width, height."""
    max_side: int | None = None
    """Shrink so that the longer side has at most that many pixels."""
    max_pixels: int | None = None
    """Decode files of up to twice that many pixels; Pillow's 89,478,485 if not given. A small file may claim much."""
    grouping: Literal["patches", "axes"] | None = field(default=None, metadata={"earlier": "patches"})
    """Adjust by a kernel of square patches, as the paper does, or by one of the rows and one of the columns. For each
    of those the mean of four random pixels stands. If not given, axes, but patches where another setting is one of
    patches, the picture has fewer than 24 rows or columns or no more than adjustment.end, or a step takes it in
    chunks."""
    patch_size: int | None = None
    """Side of a group's patch in pixels; if not given, what comes nearest to the paper's 384 patches."""
    patches_per_batch: int | None = None
    """Patches drawn per step; the whole image at every step if not given."""
    render_scale: float = 1.0
    """Resolution of the reconstruction, relative to the image's."""
    lpips_backbone: Path | None = None
    """AlexNet weights for LPIPS; torch's cache, or a download, if not given."""
    lpips_parity: bool = False
    """Report LPIPS on [0, 1] too, as the paper's code computes it, under lpips_unscaled."""


@dataclass
class SDFConfig(TaskConfig):
    """Fit a shape with a coordinate network."""

    task: ClassVar[str] = "iga-sdf"
    num_evaluations: ClassVar[int] = 20
    fitted: ClassVar[tuple[str, ...]] = ("target", "resolution", "crop")

    data: Path | None = None
    """Shape to fit: a mesh (.ply, .obj, .stl, .glb) or a file of voxels (.npy, .npz, .mat)."""
    target: ShapeTarget = "occupancy"
    """What the network learns: 1 inside and 0 outside, or the signed distance (negative inside)."""
    resolution: int = 128
    """Voxels along each side of a mesh's bounding cube; the paper has 512. Voxel files keep their own."""
    crop: bool = True
    """Cut occupancy grids down to the shape's box."""
    grouping: Literal["nearby", "rows"] = field(default="nearby", metadata={"earlier": "rows"})
    """Voxels of a step and their groups: random voxels, those near each other in a group, or random groups of
    consecutive voxels of the flattened grid, as in the paper."""
    group_size: int = 64
    """Voxels that form a group, p. In rows, half of the resolution, as the paper's 256 of 512, is one through half of
    the box."""
    groups_per_batch: int = 512
    """Groups per step, n; what the grid has where that is fewer."""
    num_epochs: int | None = None
    """Passes over the grid, or as many random voxels; takes the place of max_num_iterations if given."""
    cache_dir: Path = Path("outputs/cache")
    """Folder of sampled meshes, so that each is sampled once."""
    adjust_from: float | None = field(default=None, metadata={"earlier": 0.0})
    """Share of the steps before the adjustment begins; if not given, 0, but 0.25 for ReLU networks under Muon, which
    end lower where their first steps are adjusted."""
    mesh_scale: float = 1.0
    """Resolution of the extracted mesh, relative to the grid's."""
    mesh_format: Literal["ply", "obj", "glb", "stl"] = "ply"
    """File format of the extracted mesh."""
    adjustment: TaskAdjustmentConfig = field(
        default_factory=lambda: TaskAdjustmentConfig(end=7, representative="middle")
    )
    """The gradient adjustment."""


@dataclass
class SignalConfig(TaskConfig):
    """Fit a signal with a coordinate network: sound, CSV or NPY (--data), a --signal, or --frequencies."""

    task: ClassVar[str] = "iga-signal"
    fitted: ClassVar[tuple[str, ...]] = (
        *("signal", "frequencies", "amplitudes", "phases", "num_samples"),
        *("channel", "column", "start", "duration", "normalise", "axis_scale", "axis_by"),
    )

    data: Path | None = None
    """Signal to fit: a sound (.wav, .flac, .ogg, .mp3, .aif), a table (.csv, .tsv, .txt) or samples (.npy)."""
    signal: PaperSignal | None = None
    """A function of the paper (Sec. 4)."""
    frequencies: tuple[float, ...] = ()
    """A sum of sines on [-1, 1): frequencies in cycles per unit."""
    amplitudes: tuple[float, ...] | None = None
    """Amplitudes of the sines; 1 if not given."""
    phases: tuple[float, ...] | None = None
    """Phases of the sines in radians; 0 if not given."""
    num_samples: int | None = None
    """Samples of a function; the paper's for its own, 2048 for sines, if not given."""
    channel: int | None = None
    """Channel of a sound or NPY file, counted from 0; all if not given."""
    column: str | None = None
    """Column of a CSV file, by name or counted from 0; all but the first if not given."""
    start: float = 0.0
    """Leave out that much of a file at the beginning, in seconds."""
    duration: float | None = None
    """Length of the stretch of a file to fit, in seconds."""
    normalise: bool = True
    """Divide by the largest magnitude for the network; results are in the signal's own units. The paper does not."""
    interval_size: int | None = None
    """Consecutive samples that form a group, p; if not given, 8, but more for signals of more than 3,072 samples, so
    that they form about the 384 groups of the paper's images."""
    axis_scale: float | None = None
    """The network sees the signal on [-axis_scale, axis_scale]: the longer, the faster it can vary. If not given, 1,
    but for SIREN, except on the paper's signals, what axis_by says."""
    axis_by: Literal["spectrum", "length"] = field(default="spectrum", metadata={"earlier": "length"})
    """What SIREN's axis follows: the signal's spectrum, so that the first layer begins with frequencies up to half of
    that below which 90 % of the energy lies; or its length, 1 for every 3,072 samples, which is what SIREN's authors
    took for sound: 100 for seven seconds."""
    network: NetworkConfig = field(default_factory=lambda: NetworkConfig("siren", hidden_layers=4))
    """The coordinate network."""
    adjustment: TaskAdjustmentConfig = field(
        default_factory=lambda: TaskAdjustmentConfig(end=7, representative="middle")
    )
    """The gradient adjustment."""

    def name_of_data(self) -> str:
        """The file's or the function's name."""
        return super().name_of_data() if self.data is not None else self.signal or "sines"
