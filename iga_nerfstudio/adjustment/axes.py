"""Adjustment along the axes of a grid: one small kernel per axis instead of one of groups."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from iga_nerfstudio.adjustment.adjuster import InductiveGradientAdjuster
from iga_nerfstudio.adjustment.diagnostics import Diagnostics
from iga_nerfstudio.adjustment.grouping import Blocks
from iga_nerfstudio.adjustment.kernel import Inputs
from iga_nerfstudio.adjustment.limits import validate_refresh_interval
from iga_nerfstudio.adjustment.processes import ProcessRows
from iga_nerfstudio.adjustment.rebalance import Rebalance
from iga_nerfstudio.adjustment.transform import SpectralTransform, require_whole_numbers
from iga_nerfstudio.settings import BalanceRule, Representative


class Axes:
    """The slices of a grid, axis by axis: of an image its rows and its columns, of a volume its planes.

    Args:
        shape: The grid, ``(n_1, ..., n_d)``, whose cells are flattened in row-major order.

    Attributes:
        shape: The same.
        slices: For each axis the grid's n_a slices across it, as groups.

    Raises:
        ValueError: If a size is not positive, or no axis has two cells.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        self.shape = Blocks(shape, 1).shape
        self.slices = tuple(
            Blocks(self.shape, [1 if other == axis else cells for other, cells in enumerate(self.shape)])
            for axis in range(len(self.shape))
        )
        if max(self.shape) < 2:
            raise ValueError(f"Adjustment along axes needs one of two cells or more, got a grid of {self.shape}.")


@dataclass(frozen=True)
class AxesTransform:
    """The mean over axes of I x ... x S_a x ... x I (Kronecker products), S_a in the place of axis a.

    On the residual of an image, ``(H, W, C)``, it is ``(S_rows R + R S_cols) / 2`` for each channel. Never formed.

    Attributes:
        shape: The grid, ``(n_1, ..., n_d)``.
        transforms: S_a by axis, of n_a rows; axes that are left out are not in the mean.
    """

    shape: tuple[int, ...]
    transforms: Mapping[int, SpectralTransform]

    def apply(self, residual: Tensor) -> Tensor:
        """Multiply a residual on the flattened grid, ``(N, ...)``; of its shape and dtype."""
        grid = residual.reshape(*self.shape, -1)
        total = torch.zeros_like(grid)
        for axis, transform in self.transforms.items():
            total += transform.apply(grid.movedim(axis, 0)).movedim(0, axis)
        return (total / len(self.transforms)).reshape(residual.shape)

    def dense(self) -> Tensor:
        """The operator as an ``(N, N)`` matrix; for tests and plots."""
        vectors = next(iter(self.transforms.values())).vectors
        return self.apply(torch.eye(math.prod(self.shape), dtype=vectors.dtype, device=vectors.device))


class AxesAdjuster:
    """Gradient adjustment along the axes of a grid, for batches that are all of its cells::

        adjuster = AxesAdjuster(network, Axes((512, 768)), end=20)
        prediction = network(coordinates)
        loss = mse(adjuster(prediction, coordinates, target), target)

    Groups of a large picture are large, and within a group nothing is balanced: patches of 32x32 leave 1,024 pixels
    alike. Slices are large too, but those across one axis cut what those across the other leave together. For each
    axis a there is a kernel K_a of its n_a slices, each represented by the mean of some of its points, and of it S_a,
    as :class:`~iga_nerfstudio.adjustment.adjuster.InductiveGradientAdjuster` makes it. Going backward the residual is
    multiplied by ``M = mean_a I x ... x S_a x ... x I``; see :class:`AxesTransform`.

    With K of all N cells the residual then follows ``dR/dt = -K M R``. Where K is separable, ``K = K_1 x ... x K_d``,
    its eigenvectors are products of the axes' and M has the same ones. That of eigenvalue ``l_i m_j`` (two axes) gets
    ``l_i m_j (s_i + t_j) / 2``, with ``s = (g / l)^power`` up to ``end`` and 1 beyond. So what is coarse along all d
    axes is slowed down most (under ``"sgd"``, sped up), what is coarse along one of them keeps ``(d - 1) / d`` of its
    rate at least, and what is fine along all of them stays. M is symmetric and positive definite.

    The axes take turns: the first step computes the kernels of all, every later one that of one axis, of n_a rows for N
    cells. The others' transforms are kept until it is their turn: kernels change little from step to step.

    A step for which the kernel of an axis cannot be used, or whose loss gradient is not finite, keeps its plain
    gradient; such steps are counted and logged.

    Args:
        network: The coordinate network being trained, called as ``network(*inputs)``.
        axes: The grid.
        end: Last balanced eigenvalue of each axis, counted from 1; 0 is plain training.
        representative: Which points of a slice stand for it.
        num_representatives: How many, at most; slices of fewer cells have all of them. The kernel is that of their
            mean.
        seed: Seed of the random ones.
        refresh_interval: Compute a kernel every that many steps, of one axis after the other.
        settings: What else :class:`~iga_nerfstudio.adjustment.adjuster.InductiveGradientAdjuster` takes: ``start``,
            ``rule``, ``power``, ``readout``, ``kernel``, ``eigen_method``, ``enabled``, ``cuda_graph``.

    Attributes:
        adjusters: Those that make the transforms, by axis; an axis of one cell has none. Each has settings and
            diagnostics of its own.

    Raises:
        ValueError: If a setting is invalid, or ``end`` asks for more eigenvalues than an axis has cells.
    """

    def __init__(
        self,
        network: nn.Module,
        axes: Axes,
        end: int,
        *,
        representative: Representative = "random",
        num_representatives: int = 4,
        seed: int = 0,
        refresh_interval: int = 1,
        **settings: Any,
    ) -> None:
        if not isinstance(axes, Axes):
            raise ValueError(f"Expected the axes of a grid, as Axes((512, 768)), got {type(axes).__name__}.")
        validate_refresh_interval(refresh_interval)
        require_whole_numbers(num_representatives=num_representatives)
        self.axes, self.end = axes, end
        self.adjusters = {
            axis: InductiveGradientAdjuster(
                network,
                slices,
                end,
                representative=representative,
                num_representatives=min(num_representatives, slices.group_size),
                seed=seed + axis,
                refresh_interval=refresh_interval * sum(cells > 1 for cells in axes.shape),
                **settings,
            )
            for axis, slices in enumerate(axes.slices)
            if axes.shape[axis] > 1
        }
        for turn, adjuster in enumerate(self.adjusters.values()):
            adjuster.take_turn(turn * refresh_interval)

    def reconfigure(
        self,
        *,
        enabled: bool | None = None,
        start: int | None = None,
        end: int | None = None,
        representative: Representative | None = None,
    ) -> None:
        """Change settings of all axes between two steps; the next one is the first with them.

        Args:
            enabled: Whether to adjust at all; each of these is left as it is if None.
            start: First balanced eigenvalue of each axis.
            end: Last balanced eigenvalue of each axis.
            representative: Which points of a slice stand for it.

        Raises:
            ValueError: If the settings are invalid together; nothing is changed then.
        """
        # What the axis of fewest cells takes, all of them take.
        for axis in sorted(self.adjusters, key=lambda axis: self.axes.shape[axis]):
            self.adjusters[axis].reconfigure(enabled=enabled, start=start, end=end, representative=representative)
        self.end = self._first.end

    @property
    def _first(self) -> InductiveGradientAdjuster:
        return next(iter(self.adjusters.values()))

    @property
    def active(self) -> bool:
        """Whether the next step would be adjusted: enabled, a range to balance, and gradients are recorded."""
        return self._first.active

    @property
    def enabled(self) -> bool:
        """Whether to adjust at all."""
        return self._first.enabled

    @property
    def start(self) -> int:
        """First balanced eigenvalue of each axis, counted from 1."""
        return self._first.start

    @property
    def rule(self) -> BalanceRule:
        """What balanced eigenvalues are brought to."""
        return self._first.rule

    @property
    def power(self) -> float:
        """How far balanced eigenvalues are brought to their target."""
        return self._first.power

    @property
    def floor(self) -> float:
        """Least factor of a balanced direction."""
        return self._first.floor

    @property
    def diagnostics(self) -> Diagnostics:
        """Spectrum of the first axis; steps left unadjusted, or adjusted by fewer eigenvalues, of all: a step where
        two axes had no kernel counts twice."""
        all_seen = [adjuster.diagnostics for adjuster in self.adjusters.values()]
        return replace(
            all_seen[0],
            adjusted=all(seen.adjusted for seen in all_seen),
            unadjusted=sum((seen.unadjusted for seen in all_seen), Counter()),
            steps_reduced=sum(seen.steps_reduced for seen in all_seen),
        )

    def __call__(self, prediction: Tensor, inputs: Inputs, target: Tensor | None = None) -> Tensor:
        """Pass the prediction of all cells on to the loss, with the gradient that comes back adjusted.

        Args:
            prediction: ``network(*inputs)``, ``(N, C)``, N the grid's cells in row-major order.
            inputs: What the network was fed, one tensor or a tuple, ``(N, d)`` each.
            target: Ground truth, ``(N, C)``; only representatives of largest residual look at it.

        Returns:
            The prediction, unchanged in value.

        Raises:
            ValueError: If the batch is not the grid, shapes do not fit one another, or the target is missing.
            UnsupportedNetworkError: If the kernel of this network cannot be computed layer by layer.
        """
        if not self.active:
            return prediction
        made = {axis: one.transform_of_batch(prediction, inputs, target) for axis, one in self.adjusters.items()}
        usable = {axis: transform for axis, transform in made.items() if transform is not None}
        if len(usable) < len(made):
            return prediction
        transform = AxesTransform(self.axes.shape, usable)
        return Rebalance.apply(prediction, transform, ProcessRows(len(prediction)), self._first._residual_not_finite)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to go on as if it had not stopped; tensors and plain Python values only."""
        return {"axes": {axis: adjuster.state_dict() for axis, adjuster in self.adjusters.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a state that :meth:`state_dict` gave.

        Args:
            state: The saved state; tensors are moved to the network's device.

        Raises:
            KeyError: If an entry is missing.
        """
        for axis, adjuster in self.adjusters.items():
            adjuster.load_state_dict(state["axes"][axis])
