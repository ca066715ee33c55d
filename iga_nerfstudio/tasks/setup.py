"""What a run is made of before its first step: device, network, balance and adjuster, by its settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal, TypeVar, cast

import torch

from iga_nerfstudio.adjustment import Axes, AxesAdjuster, Grouping, InductiveGradientAdjuster, require_enough_groups
from iga_nerfstudio.adjustment.limits import require_kernel_fits
from iga_nerfstudio.adjustment.settings import adjuster_of, arguments_of
from iga_nerfstudio.devices import default_device, require_device
from iga_nerfstudio.networks import CoordinateMLP, begin_near, build_network
from iga_nerfstudio.settings import AdjustmentSettings, Representative
from iga_nerfstudio.tasks.config import ImageConfig, MachineConfig, SDFConfig, SignalConfig, TaskConfig
from iga_nerfstudio.tasks.optimizers import adam_learning_rate, balance_rule, learning_rate, momentum, rate_family
from iga_nerfstudio.tasks.samples import Batches, FullBatch, GridSamples

AnyGrouping = TypeVar("AnyGrouping", bound=Grouping)

PAPER_GROUPS = 384
"""Groups of the paper's images, 768x512 in patches of 32x32."""

# What the automatic choice of balanced eigenvalues goes by.
GROUPS_PER_EIGENVALUE, MOST_EIGENVALUES = 19, 25
CELLS_PER_EIGENVALUE, MOST_EIGENVALUES_OF_AXIS = 6, 20
# Activations of a layer that are held at once: 131,072 points of 256 units each, and four times as many on a GPU.
NUMBERS_PER_LAYER, NUMBERS_PER_LAYER_GPU = 1 << 25, 1 << 27
# Settings that count something, of all tasks and of some.
_COUNTS = (
    *("max_num_iterations", "num_epochs", "steps_per_log", "steps_per_eval", "steps_per_save"),
    *("patch_size", "patches_per_batch", "interval_size", "num_samples", "group_size", "groups_per_batch"),
)
# Points that the curve of the loss has at least, in runs of that many steps.
LEAST_CURVE_POINTS = 50


def validate(config: TaskConfig) -> None:
    """Check the settings of the loop, and what is counted of the data.

    Raises:
        ValueError: If one is out of range.
    """
    counts = {name: getattr(config, name, None) for name in _COUNTS}
    for name, value in (counts | {"machine.points_per_chunk": chunk_size(config)}).items():
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}.")
    if not -(1 << 63) <= config.machine.seed < 1 << 64:  # torch's
        raise ValueError(f"machine.seed must lie between {-(1 << 63)} and {(1 << 64) - 1}, got {config.machine.seed}.")
    if config.network.batch_norm and config.adjustment.enabled:
        raise ValueError(
            "Batch normalisation couples all points of a batch, so there is no kernel to adjust by. Train it plain: "
            "--adjustment.enabled False."
        )


def steps_between_points(config: TaskConfig) -> tuple[int, int]:
    """Steps between points of the training curves, and between evaluations."""
    steps = config.max_num_iterations
    return (
        min(max(steps // LEAST_CURVE_POINTS, 1), 10) if config.steps_per_log is None else config.steps_per_log,
        max(steps // config.num_evaluations, 1) if config.steps_per_eval is None else config.steps_per_eval,
    )


def choose_device(machine: MachineConfig) -> torch.device:
    """The device that the settings name.

    Raises:
        ValueError: If it is not there.
    """
    return require_device(default_device() if machine.device_type == "auto" else machine.device_type)


def chunk_size(config: TaskConfig) -> int:
    """Points whose activations are held at once."""
    machine = config.machine
    if machine.points_per_chunk is not None:
        return machine.points_per_chunk
    numbers = NUMBERS_PER_LAYER if choose_device(machine).type == "cpu" else NUMBERS_PER_LAYER_GPU
    # What a point takes beside a narrow layer is more than the layer.
    return numbers // max(config.network.hidden_dim, 64)


def initial_network(config: TaskConfig, sizes: tuple[int, int], samples: GridSamples) -> CoordinateMLP:
    """The network before its first step; the global random state is afterwards as it was.

    Args:
        config: The run's settings.
        sizes: ``(d, C)``: coordinates per point and values per point.
        samples: The data.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.machine.seed)
        network = build_network(config.network, *sizes)
    if first_output(config) == "mean":
        begin_near(network, samples.mean())
    return network.to(choose_device(config.machine))


def automatic_balance(
    config: TaskConfig, num_groups: int, per_eigenvalue: int = GROUPS_PER_EIGENVALUE, most: int = MOST_EIGENVALUES
) -> tuple[int, float]:
    """Last balanced eigenvalue, and how far the balanced ones are brought, where the settings leave them open.

    The number is the paper's 20 of 384 groups in proportion, at most its 25. Under Muon they are brought a part of the
    way, which did better over networks and photographs (docs/results/balance.md); under Adam all of it did.

    Args:
        config: The run's settings.
        num_groups: Groups in every batch.
        per_eigenvalue: Groups for each balanced eigenvalue.
        most: Most balanced eigenvalues.

    Returns:
        ``end`` and ``power``.
    """
    settings = config.adjustment
    if settings.end is None:
        end = min(max(num_groups // per_eigenvalue, 1), most)
        power = 0.7 if config.optimizer.kind == "muon" else 1.0
    else:
        end, power = settings.end, 1.0
    return end, power if settings.power is None else settings.power


def build_adjuster(
    config: TaskConfig, network: CoordinateMLP, grouping: Grouping, batches: Batches
) -> InductiveGradientAdjuster:
    """The adjuster of a run.

    Args:
        config: The run's settings.
        network: The network to train.
        grouping: All groups of the data.
        batches: What steps get of them.

    Raises:
        ValueError: If a setting is invalid, or there are too few groups for ``end``.
    """
    # The residuals of now are not known before the first chunk of a step is.
    in_chunks = batches.num_groups * grouping.group_size > chunk_size(config)
    representative: Representative = (
        "previous_residual" if in_chunks and isinstance(batches, FullBatch) else "largest_residual"
    )
    settings = _filled_in(config, *automatic_balance(config, batches.num_groups), representative)
    return adjuster_of(settings, network, grouping, seed=config.machine.seed, cuda_graph=True)


def build_axes_adjuster(config: TaskConfig, network: CoordinateMLP, axes: Axes) -> AxesAdjuster:
    """The adjuster of a run along axes; which points stand for a slice is its own choice.

    Args:
        config: The run's settings.
        network: The network to train.
        axes: The grid of the data.

    Raises:
        ValueError: If a setting is invalid, or an axis has too few cells for ``end``.
    """
    shortest = min(axes.shape)
    balance = automatic_balance(config, shortest, CELLS_PER_EIGENVALUE, MOST_EIGENVALUES_OF_AXIS)
    arguments = arguments_of(_filled_in(config, *balance, "random"))
    del arguments["representative"], arguments["num_representatives"]
    return AxesAdjuster(network, axes, seed=config.machine.seed, cuda_graph=True, **arguments)


def _filled_in(config: TaskConfig, end: int, power: float, representative: Representative) -> AdjustmentSettings:
    """The adjustment's settings with nothing left open."""
    own = config.adjustment
    return replace(
        own,
        end=end if own.enabled else 0,
        rule=own.rule or balance_rule(config.optimizer),
        power=power,
        representative=own.representative or representative,  # type: ignore[arg-type]
    )


def first_output(config: TaskConfig) -> Literal["mean", "drawn"]:
    """What the network gives before its first step: the given choice, or what did better in trials with such data."""
    if config.first_output is not None:
        return config.first_output
    if isinstance(config, SignalConfig):
        return "mean" if config.signal is None and rate_family(config.network.kind) == 2 else "drawn"
    return "mean" if isinstance(config, ImageConfig) else "drawn"


def adjust_from(config: TaskConfig) -> float:
    """Share of a run's steps before the adjustment begins: the given one, or one that suits network and optimiser.

    Raises:
        ValueError: If it is no such share.
    """
    if not isinstance(config, SDFConfig):
        return 0.0
    if config.adjust_from is None:
        return 0.25 if (config.network.kind, config.optimizer.kind) == ("relu", "muon") else 0.0
    if not 0 <= config.adjust_from <= 1:
        raise ValueError(f"The adjustment begins at a share of the run, 0 to 1, not adjust_from={config.adjust_from}.")
    return config.adjust_from


def resolved(config: TaskConfig, adjuster: InductiveGradientAdjuster | AxesAdjuster) -> TaskConfig:
    """The settings with what they leave open filled in as the run had it.

    Args:
        config: The run's settings.
        adjuster: The run's.
    """
    steps_per_log, steps_per_eval = steps_between_points(config)
    optimizer = replace(
        config.optimizer,
        lr=learning_rate(config.optimizer, config.network),
        adam_lr=adam_learning_rate(config.optimizer, config.network),
        momentum=None if config.optimizer.kind in ("adam", "soap") else momentum(config.optimizer),
    )
    adjustment = config.adjustment
    if adjuster.enabled:
        adjustment = replace(adjustment, end=adjuster.end, rule=adjuster.rule, power=adjuster.power)
        if isinstance(adjuster, InductiveGradientAdjuster):
            adjustment = replace(adjustment, representative=adjuster.representative)  # type: ignore[arg-type]
    device = cast(Literal["cpu", "cuda", "mps"], choose_device(config.machine).type)
    return replace(
        config,
        steps_per_log=steps_per_log,
        steps_per_eval=steps_per_eval,
        first_output=first_output(config),
        optimizer=optimizer,
        adjustment=adjustment,
        machine=replace(config.machine, device_type=device, points_per_chunk=chunk_size(config)),
    )


def grouped(make: Callable[[], AnyGrouping], option: str) -> AnyGrouping:
    """A grouping, or why there is none with the option to change.

    Args:
        make: Gives the grouping.
        option: What decides the size of its groups.

    Raises:
        ValueError: If the groups do not fit the data.
    """
    try:
        return make()
    except ValueError as error:
        raise ValueError(f"{error} The option is {option}.") from None


def require_groups(config: TaskConfig, num_groups: int, option: str) -> None:
    """Refuse batches whose groups are fewer than a run balances eigenvalues, or more than a kernel can have.

    Args:
        config: The run's settings.
        num_groups: Groups in every batch.
        option: What to change.

    Raises:
        ValueError: If there are too few or too many.
    """
    settings = config.adjustment
    end, _power = automatic_balance(config, num_groups)
    if not settings.enabled or end == 0:
        return
    try:
        require_enough_groups(num_groups, end, settings.rule or balance_rule(config.optimizer))
        require_kernel_fits(num_groups, choose_device(config.machine))
    except ValueError as error:
        raise ValueError(f"{error} The option is {option}.") from None
