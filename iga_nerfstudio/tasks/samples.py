"""Training data on regular grids, and the batches that training steps see."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from iga_nerfstudio.adjustment import Blocks, Grouping, Intervals, order_by_place
from iga_nerfstudio.adjustment.grouping import DrawnGroups

# Cells whose numbers and coordinates are worked out at once.
_CELLS_AT_ONCE = 1 << 20
# Values by which a run's data are known again, and by how much of their range they may be others: another version of a
# library decodes or shrinks a picture a little differently.
_TRAITS, _TRAITS_TOLERANCE = 1000, 0.01


def to_numpy(values: np.ndarray | Tensor) -> np.ndarray:
    """A caller's values, on any device, as an array, which keeps its mask if it has one."""
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asanyarray(values)


def as_array(values: np.ndarray | Tensor) -> np.ndarray:
    """A caller's samples, on any device, as an array of real numbers.

    Raises:
        ValueError: If they are no real numbers.
    """
    array = np.asarray(to_numpy(values))
    if array.dtype.kind not in "fiub":
        raise ValueError(f"Samples must be real numbers, got an array of {array.dtype} and shape {array.shape}.")
    return array


class Grid:
    """Points of a regular grid; rows are its cells in row-major order.

    Coordinates are computed where they are asked for: a grid of 512^3 cells holds d axes and no list of points.

    Args:
        axes: Positions along each axis, ``(n_i,)``, all on one device.
    """

    def __init__(self, axes: Sequence[Tensor]) -> None:
        self._axes = list(axes)
        self.shape = tuple(len(axis) for axis in axes)
        self.num_points = math.prod(self.shape)
        self.device = axes[0].device

    @classmethod
    def unit(cls, shape: Sequence[int], device: torch.device | str = "cpu") -> Grid:
        """Cells spread evenly from -1 to 1 along each axis, ends included; at 0 where there is one cell.

        Args:
            shape: Cells along each axis.
            device: Where coordinates are needed.
        """
        return cls([torch.linspace(-1, 1, n, device=device) if n > 1 else torch.zeros(1, device=device) for n in shape])

    def coordinates(self, rows: Tensor) -> Tensor:
        """Coordinates of some cells: int64 ``(...)`` to float32 ``(..., d)``."""
        columns = []
        for axis in reversed(self._axes[1:]):
            columns.append(axis[rows % len(axis)])
            rows = rows // len(axis)
        columns.append(self._axes[0][rows])
        return torch.stack(columns[::-1], dim=-1)

    def thinned(self, step: int) -> Grid:
        """The grid of one position in so many along each axis, the first included.

        Args:
            step: Distance of the positions in cells, at least 1.
        """
        return Grid([axis[::step] for axis in self._axes])


class Cells:
    """Some cells of a grid, in an order of their own.

    Args:
        grid: The grid.
        cells: Their numbers on it, ``(N,)``, any integers, on the grid's device.
    """

    def __init__(self, grid: Grid, cells: Tensor) -> None:
        self._grid, self._cells = grid, cells
        self.device = grid.device

    def coordinates(self, rows: Tensor) -> Tensor:
        """Coordinates of some of the cells: int64 ``(...)``, places in the list of them, to float32 ``(..., d)``."""
        return self._grid.coordinates(self._cells[rows].long())


class GridSamples:
    """Values on a regular grid.

    Args:
        grid: Where; its device is where batches are made.
        values: ``(N, C)`` for the grid's N points, any number type; converted to float32 batch by batch, so that a
            large grid of bytes stays one of bytes.

    Raises:
        ValueError: If the number of values does not fit the grid.
    """

    def __init__(self, grid: Grid, values: Tensor) -> None:
        if values.ndim != 2 or values.shape[0] != grid.num_points:
            raise ValueError(f"A grid of {grid.shape} needs ({grid.num_points}, C) values, got {tuple(values.shape)}.")
        self.grid = grid
        self.values = values.to(grid.device)

    @property
    def num_points(self) -> int:
        """Number of cells, N."""
        return self.grid.num_points

    @property
    def device(self) -> torch.device:
        """Where batches are made."""
        return self.grid.device

    def coordinates(self, rows: Tensor) -> Tensor:
        """Coordinates of some cells in [-1, 1]: int64 ``(k,)`` to float32 ``(k, d)``."""
        return self.grid.coordinates(rows)

    def targets(self, rows: Tensor) -> Tensor:
        """Values of some cells: int64 ``(k,)`` to float32 ``(k, C)``."""
        return self.values[rows].float()

    def mean(self) -> Tensor:
        """Mean over the grid, float32 ``(C,)``."""
        parts = [part.float().mean(0) * (len(part) / self.num_points) for part in self.values.split(_CELLS_AT_ONCE)]
        return torch.stack(parts).sum(0)

    def traits(self) -> dict[str, Any]:
        """By what the data are known again when a run is continued: sizes, and some values from all over the grid."""
        step = max(self.num_points // _TRAITS, 1) | 1  # odd, so that they are not all of one column
        some = self.values[::step].float().cpu()
        return {"sizes": [*self.grid.shape, self.values.shape[1]], "some": some}

    def require_traits(self, traits: dict[str, Any] | None) -> None:
        """Refuse to go on with a run on other data than it was begun with.

        Args:
            traits: What :meth:`traits` gave; None of runs begun before they were kept.

        Raises:
            ValueError: If the data are others.
        """
        if traits is None:
            return
        own = self.traits()
        if own["sizes"] != traits["sizes"]:
            raise ValueError(f"its data have the sizes {traits['sizes']}, these {own['sizes']}")
        difference = (own["some"] - traits["some"]).abs().mean().item()
        if difference > _TRAITS_TOLERANCE * (traits["some"].max() - traits["some"].min()).item():
            raise ValueError(f"its data are of the same sizes, but these differ from them by {difference:.2g}")


class Batch:
    """One training step's data.

    Args:
        places: Coordinates, ``(N, d)``, or the grid or cells that they are those of: a batch of a large picture then
            holds no list of coordinates, which are computed for the rows that are asked for.
        target: Values there, ``(N, C)``.
        grouping: How the rows form groups.

    Attributes:
        target: Values, ``(N, C)``.
        grouping: How the rows form groups.
    """

    def __init__(self, places: Tensor | Grid | Cells, target: Tensor, grouping: Grouping) -> None:
        self._places = places
        self.target = target
        self.grouping = grouping

    @property
    def inputs(self) -> Tensor:
        """All coordinates, ``(N, d)``; those of a grid's cells are computed anew."""
        return self.inputs_at(slice(0, len(self.target)))

    def inputs_at(self, rows: Tensor | slice) -> Tensor:
        """Coordinates of some rows.

        Args:
            rows: int64 ``(...)``, or a slice from one row up to another.

        Returns:
            ``(..., d)``.
        """
        if isinstance(self._places, Tensor):
            return self._places[rows]
        if isinstance(rows, slice):
            rows = torch.arange(rows.start, rows.stop, device=self._places.device)
        return self._places.coordinates(rows)


class Batches(Protocol):
    """Where training steps get their data."""

    @property
    def samples(self) -> GridSamples:
        """The data that batches are of."""

    @property
    def num_groups(self) -> int:
        """Groups in every batch, n."""

    def next(self) -> Batch:
        """The next step's batch."""

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to get the same batches."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a state that :meth:`state_dict` gave."""


class FullBatch:
    """All samples at every step.

    Args:
        samples: The data.
        grouping: How they form groups.
    """

    def __init__(self, samples: GridSamples, grouping: Blocks) -> None:
        self.num_groups = grouping.num_groups(samples.num_points)
        self.samples = samples
        self._batch = Batch(samples.grid, samples.values.float(), grouping)

    def next(self) -> Batch:
        """The same batch every time."""
        return self._batch

    def state_dict(self) -> dict[str, Any]:
        """What the data are known by; nothing changes from step to step."""
        return {"traits": self.samples.traits()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Make sure that a state is of the same data."""
        self.samples.require_traits(state.get("traits"))


class RandomGroups:
    """Some whole groups at every step, drawn without replacement until all have been seen (an epoch).

    Args:
        samples: The data.
        grouping: All groups of the data.
        groups_per_batch: Groups per step, n. Groups left over at the end of an epoch are not used in it.
        seed: Seed of the order.

    Raises:
        ValueError: If there are fewer groups than a batch takes.
    """

    def __init__(self, samples: GridSamples, grouping: Blocks, groups_per_batch: int, seed: int) -> None:
        self.samples, self._grouping, self.num_groups = samples, grouping, groups_per_batch
        self._all_groups = grouping.num_groups(samples.num_points)
        if not 0 < groups_per_batch <= self._all_groups:
            raise ValueError(
                f"A batch of {groups_per_batch} groups cannot be drawn from {self._all_groups} groups of "
                f"{grouping.group_size} points each. Use fewer groups per batch, or smaller groups."
            )
        self._generator = torch.Generator().manual_seed(seed)
        self._order, self._position = torch.empty(0, dtype=torch.int64), 0

    @property
    def batches_per_epoch(self) -> int:
        """Steps in which every group is seen once, those left over aside."""
        return self._all_groups // self.num_groups

    def next(self) -> Batch:
        """The next groups of the epoch, or the first of a new one."""
        if self._position + self.num_groups > len(self._order):
            self._order = torch.randperm(self._all_groups, generator=self._generator)
            self._position = 0
        groups = self._order[self._position : self._position + self.num_groups]
        self._position += self.num_groups
        cells, filled = self._members(groups)
        samples = self.samples
        target = torch.empty(len(cells), samples.values.shape[1], device=samples.device)
        for start in range(0, len(cells), _CELLS_AT_ONCE):
            part = slice(start, start + _CELLS_AT_ONCE)
            target[part] = samples.targets(cells[part].long())
        return Batch(Cells(samples.grid, cells), target, DrawnGroups(filled))

    def _members(self, groups: Tensor) -> tuple[Tensor, Tensor]:
        """Cells of k groups, ``(N,)`` on the data's device, and filled slots, bool ``(k, p)`` on the CPU."""
        integers = torch.int32 if self.samples.num_points < 2**31 else torch.int64
        cells, filled = [], []
        for part in groups.split(max(_CELLS_AT_ONCE // self._grouping.group_size, 1)):
            rows, present = self._grouping.members(part)
            cells.append(rows[present].to(integers))
            filled.append(present)
        return torch.cat(cells).to(self.samples.device), torch.cat(filled)

    def state_dict(self) -> dict[str, Any]:
        """Order and position of the epoch, the random state, and what the data are known by."""
        return {
            "order": self._order,
            "position": self._position,
            "generator": self._generator.get_state(),
            "traits": self.samples.traits(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where a state was taken, of the same data."""
        self.samples.require_traits(state.get("traits"))
        self._order, self._position = state["order"].cpu(), state["position"]
        self._generator.set_state(state["generator"].cpu())


class RandomPoints:
    """Random cells at every step, those near each other in a group.

    The cells of a step lie all over the grid, as those of whole groups do not: the gradient varies less from step to
    step. They are drawn with replacement, so that a grid of 512^3 cells needs no list of them.

    Args:
        samples: The data.
        num_groups: Groups per step, n.
        group_size: Cells per group, p.
        seed: Seed of the draws.

    Raises:
        ValueError: If a step would take more cells than there are.
    """

    def __init__(self, samples: GridSamples, num_groups: int, group_size: int, seed: int) -> None:
        if not 0 < num_groups * group_size <= samples.num_points:
            raise ValueError(
                f"{num_groups} groups of {group_size} points cannot be drawn from {samples.num_points} points. Use "
                "fewer groups per batch, or smaller groups."
            )
        self.samples, self.num_groups = samples, num_groups
        self.grouping = Intervals(num_groups * group_size, group_size, same_groups_every_step=False)
        self._generator = torch.Generator().manual_seed(seed)

    @property
    def batches_per_epoch(self) -> int:
        """Steps in which as many cells are drawn as there are."""
        return self.samples.num_points // self.grouping.num_inputs

    def next(self) -> Batch:
        """The next step's cells."""
        samples = self.samples
        draw = torch.randint(samples.num_points, (self.grouping.num_inputs,), generator=self._generator)
        cells = draw.to(samples.device)
        cells = cells[order_by_place(samples.coordinates(cells))]
        return Batch(Cells(samples.grid, cells), samples.targets(cells), self.grouping)

    def state_dict(self) -> dict[str, Any]:
        """The random state, and what the data are known by."""
        return {"generator": self._generator.get_state(), "traits": self.samples.traits()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where a state was taken, of the same data."""
        self.samples.require_traits(state.get("traits"))
        self._generator.set_state(state["generator"].cpu())
