"""Settings that images, shapes and signals share."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from iga_nerfstudio.adjustment.settings import AdjustmentSettings
from iga_nerfstudio.networks import NetworkConfig


@dataclass
class TaskAdjustmentConfig(AdjustmentSettings):
    """How the gradient is adjusted."""

    representative: Literal[
        "largest_residual", "previous_residual", "all_maxima", "random", "random_once", "middle", "mean"
    ] = "largest_residual"
    """Which point stands for its group: that of largest residual, now or at the step before (full batches only; spares
    steps in chunks a forward pass), a random or fixed one, or the mean of num_representatives drawn ones. all_maxima is
    the mean of the places where any group's residual is largest, as in the authors' code for images."""


@dataclass
class OptimizerConfig:
    """What turns gradients into steps."""

    kind: Literal["muon", "adam", "sgd"] = "muon"
    """Muon on weight matrices with Adam on the rest, Adam, or plain gradient descent."""
    lr: float | None = None
    """Learning rate; one that suits the optimiser and the network if not given."""
    adam_lr: float = 1e-3
    """Muon only: learning rate of biases and other parameters that are no matrices."""
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
    memory. If not given, 65,536 on a CPU, else 524,288."""


@dataclass
class TaskConfig:
    """A run: what all tasks have in common."""

    task: ClassVar[str]
    """Name of the task and its command."""
    num_evaluations: ClassVar[int] = 50
    """Evaluations in a run where nothing else is asked for."""

    data: Path | None = None
    """What to fit."""
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
    adjustment: TaskAdjustmentConfig = field(default_factory=TaskAdjustmentConfig)
    """The gradient adjustment."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """The optimiser."""
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    """The learning rate's schedule."""
    machine: MachineConfig = field(default_factory=MachineConfig)
    """Device, seed, precision, memory."""

    def name_of_data(self) -> str:
        """What to call an experiment that has no name of its own."""
        return "unnamed" if self.data is None else self.data.stem
