"""How N inputs become n groups of p neighbours, and back.

A grouping turns anything with N rows into ``(n, p, ...)`` (:meth:`Grouping.split`) and back without loss
(:meth:`Grouping.join`). Where p does not divide the input evenly, the last groups are ragged: they keep p slots, of
which some are empty. Empty slots read as zero and :attr:`Grouping.mask` tells them apart.
"""

from __future__ import annotations

import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import pad

from iga_nerfstudio.adjustment.transform import require_whole_numbers


class Grouping(ABC):
    """A partition of N inputs into n groups of p slots.

    Attributes:
        group_size: Slots per group, p.
        same_groups_every_step: Whether group j holds the same inputs at every training step, so that the
            transform and eigenvectors of one step mean something at the next.
    """

    group_size: int
    same_groups_every_step: bool

    @abstractmethod
    def num_groups(self, num_inputs: int) -> int:
        """Number of groups n for a batch of N inputs.

        Raises:
            ValueError: If the batch does not fit the grouping.
        """

    @abstractmethod
    def split(self, values: Tensor) -> Tensor:
        """Arrange rows into groups.

        Args:
            values: ``(N, ...)``.

        Returns:
            ``(n, p, ...)``, zero in empty slots.

        Raises:
            ValueError: If the first axis does not fit the grouping.
        """

    @abstractmethod
    def join(self, groups: Tensor) -> Tensor:
        """Undo :meth:`split`: ``(n, p, ...)`` to ``(N, ...)``, empty slots dropped."""

    @property
    @abstractmethod
    def mask(self) -> Tensor | None:
        """Filled slots, bool ``(n, p)`` on the CPU, or None where every slot is filled."""


class Rays(Grouping):
    """One group per ray: rows are samples, ray by ray (paper Sec. 5.3).

    Args:
        samples_per_ray: Samples on each ray, p.

    Raises:
        ValueError: If samples_per_ray is no positive whole number.
    """

    same_groups_every_step = False

    def __init__(self, samples_per_ray: int) -> None:
        require_whole_numbers(samples_per_ray=samples_per_ray)
        if samples_per_ray < 1:
            raise ValueError(f"samples_per_ray must be positive, got {samples_per_ray}.")
        self.group_size = samples_per_ray

    def num_groups(self, num_inputs: int) -> int:
        if num_inputs % self.group_size:
            raise ValueError(
                f"Got {num_inputs} samples, which are no whole number of rays of {self.group_size} samples each."
            )
        return num_inputs // self.group_size

    def split(self, values: Tensor) -> Tensor:
        return values.reshape(self.num_groups(values.shape[0]), self.group_size, *values.shape[1:])

    def join(self, groups: Tensor) -> Tensor:
        return groups.reshape(groups.shape[0] * groups.shape[1], *groups.shape[2:])

    @property
    def mask(self) -> None:
        return None


class Blocks(Grouping):
    """Non-overlapping blocks of a d-dimensional grid whose cells are flattened in row-major order.

    Args:
        shape: The grid, ``(n_1, ..., n_d)``; N is its product.
        block_size: Cells per block along each axis, one number for all axes or one per axis.

    Raises:
        ValueError: If a size is not positive, the numbers of axes differ, or a block is larger than the grid.
    """

    same_groups_every_step = True

    def __init__(self, shape: Sequence[int], block_size: int | Sequence[int]) -> None:
        try:
            self.shape = tuple(map(operator.index, shape))
            sizes = block_size if isinstance(block_size, Iterable) else [block_size] * len(self.shape)
            self.block_size = tuple(map(operator.index, sizes))
        except TypeError:
            raise ValueError(
                "The sizes of a grid are whole numbers, one per axis in brackets, and those of blocks are whole "
                f"numbers, got a grid of {shape!r} and blocks of {block_size!r}."
            ) from None
        if not self.shape or min(self.shape) < 1 or min(self.block_size, default=0) < 1:
            raise ValueError(f"Sizes must be positive, got a grid of {self.shape} and blocks of {self.block_size}.")
        if len(self.shape) != len(self.block_size):
            raise ValueError(f"The grid {self.shape} and the block {self.block_size} differ in their number of axes.")
        if any(size > cells for size, cells in zip(self.block_size, self.shape, strict=True)):
            raise ValueError(
                f"Blocks of {self.block_size} are larger than the grid of {self.shape}. Choose smaller groups."
            )
        self.blocks_per_axis = tuple(
            math.ceil(cells / size) for cells, size in zip(self.shape, self.block_size, strict=True)
        )
        self.num_inputs = math.prod(self.shape)
        self.group_size = math.prod(self.block_size)

    def __eq__(self, other: object) -> bool:
        """Whether the other one makes the same groups, so that what is kept of them holds for it too."""
        return type(other) is type(self) and (self.shape, self.block_size) == (other.shape, other.block_size)

    def __hash__(self) -> int:
        return hash((self.shape, self.block_size))

    def num_groups(self, num_inputs: int) -> int:
        if num_inputs != self.num_inputs:
            raise ValueError(f"Got {num_inputs} rows for a grid of {self.shape}, which has {self.num_inputs} cells.")
        return math.prod(self.blocks_per_axis)

    def split(self, values: Tensor) -> Tensor:
        n = self.num_groups(values.shape[0])
        trailing, axes = values.shape[1:], len(self.shape)
        grid = values.reshape(*self.shape, *trailing)
        missing = [-cells % size for cells, size in zip(self.shape, self.block_size, strict=True)]
        if any(missing):
            # pad() counts axes from the last one; trailing axes stay as they are.
            widths = [0, 0] * len(trailing) + [w for m in reversed(missing) for w in (0, m)]
            grid = pad(grid, widths)
        interleaved = [extent for pair in zip(self.blocks_per_axis, self.block_size, strict=True) for extent in pair]
        order = [*range(0, 2 * axes, 2), *range(1, 2 * axes, 2), *range(2 * axes, 2 * axes + len(trailing))]
        return grid.reshape(*interleaved, *trailing).permute(order).reshape(n, self.group_size, *trailing)

    def join(self, groups: Tensor) -> Tensor:
        trailing, axes = groups.shape[2:], len(self.shape)
        blocks = groups.reshape(*self.blocks_per_axis, *self.block_size, *trailing)
        order = [axis for pair in zip(range(axes), range(axes, 2 * axes), strict=True) for axis in pair]
        order += range(2 * axes, 2 * axes + len(trailing))
        padded = [count * size for count, size in zip(self.blocks_per_axis, self.block_size, strict=True)]
        grid = blocks.permute(order).reshape(*padded, *trailing)
        return grid[tuple(slice(cells) for cells in self.shape)].reshape(self.num_inputs, *trailing)

    def members(self, groups: Tensor) -> tuple[Tensor, Tensor]:
        """Which rows some groups hold, without a table of all.

        Args:
            groups: Numbers of k groups, int64 ``(k,)``.

        Returns:
            Rows, int64 ``(k, p)``, meaningless in empty slots, and filled slots, bool ``(k, p)``.
        """
        slots = torch.arange(self.group_size, device=groups.device)
        blocks = torch.unravel_index(groups, self.blocks_per_axis)
        offsets = torch.unravel_index(slots, self.block_size)
        rows = torch.zeros(len(groups), self.group_size, dtype=torch.int64, device=groups.device)
        filled = torch.ones_like(rows, dtype=torch.bool)
        for block, offset, size, cells in zip(blocks, offsets, self.block_size, self.shape, strict=True):
            position = block[:, None] * size + offset
            filled &= position < cells
            rows = rows * cells + position
        return rows, filled

    @cached_property
    def _mask(self) -> Tensor | None:
        mask = self.split(torch.ones(self.num_inputs, dtype=torch.bool, device="cpu"))
        return None if bool(mask.all()) else mask

    @property
    def mask(self) -> Tensor | None:
        return self._mask


class Patches(Blocks):
    """Non-overlapping square patches of an image whose pixels are flattened row by row (paper Sec. 3.4).

    Args:
        image_size: ``(height, width)`` in pixels.
        patch_size: Side of a patch in pixels; the last row and column of patches may be ragged.

    Raises:
        ValueError: If a size is not positive or the patch is larger than the image.
    """

    def __init__(self, image_size: tuple[int, int], patch_size: int) -> None:
        super().__init__(image_size, patch_size)


class Intervals(Blocks):
    """Runs of p consecutive inputs: 1D signals, and flattened grids of three and more dimensions (paper Sec. 3.4).

    Args:
        num_inputs: N.
        interval_size: Inputs per group, p; the last group may be ragged.
        same_groups_every_step: False where every step brings other inputs, as when random groups are drawn.

    Raises:
        ValueError: If a size is not positive or the interval is longer than the input.
    """

    def __init__(self, num_inputs: int, interval_size: int, same_groups_every_step: bool = True) -> None:
        super().__init__((num_inputs,), interval_size)
        self.same_groups_every_step = same_groups_every_step


def order_by_place(points: Tensor) -> Tensor:
    """An order in which points that follow one another are near each other: that of a Z-order curve (Morton, 1966).

    For batches of points that lie on no grid, random pixels or voxels or collocation points: in that order runs of
    them are compact groups, ``Intervals(N, p, same_groups_every_step=False)``.

    Args:
        points: Coordinates, ``(N, d)``, floating or integer.

    Returns:
        Places in the list of points, int64 ``(N,)``.

    Raises:
        ValueError: If points are no table of d coordinates, or there is none, or one is not finite.
    """
    if points.ndim != 2 or not len(points) or not 0 < points.shape[1] <= 62:
        raise ValueError(f"Expected coordinates of shape (N, d) with d from 1 to 62, got {tuple(points.shape)}.")
    axes = points.shape[1]
    bits = min(62 // axes, 10)  # of a coordinate: groups are coarser than a thousandth of the box
    # Of types in which differences, and a thousand times those, are not too large.
    points = points.to(torch.promote_types(points.dtype, torch.float32) if points.is_floating_point() else torch.int64)
    low, high = points.aminmax(dim=0)
    span = (high - low).clamp_min(torch.finfo(torch.float32).tiny)
    if not torch.isfinite(span).all():
        raise ValueError("Points that are NaN or infinite have no place among the others. Leave them out.")
    cells = ((points - low) * (2**bits - 1) / span).long()
    # Each place's binary digits, so far apart that those of the other axes fit between them.
    digit = torch.arange(bits, device=points.device)
    spread = ((torch.arange(2**bits, device=points.device)[:, None] >> digit & 1) << digit * axes).sum(1)
    code = torch.zeros(len(points), dtype=torch.int64, device=points.device)
    for axis in range(axes):
        code += spread[cells[:, axis]] << axis
    return code.argsort(stable=True)


class DrawnGroups(Grouping):
    """Groups drawn anew for every batch: rows are the filled slots of n groups of p, group by group.

    Args:
        filled: Filled slots, bool ``(n, p)``, at least one per group.

    Raises:
        ValueError: If a group is empty.
    """

    same_groups_every_step = False

    def __init__(self, filled: Tensor) -> None:
        if filled.ndim != 2 or not filled.any(1).all():
            raise ValueError(f"Need groups of at least one filled slot each, got filled slots {tuple(filled.shape)}.")
        self._filled = filled.cpu()
        self._all_filled = bool(filled.all())
        self.num_inputs = int(filled.sum())
        self.group_size = filled.shape[1]

    def num_groups(self, num_inputs: int) -> int:
        if num_inputs != self.num_inputs:
            raise ValueError(f"Got {num_inputs} rows for groups that hold {self.num_inputs}.")
        return self._filled.shape[0]

    def split(self, values: Tensor) -> Tensor:
        n, trailing = self.num_groups(values.shape[0]), values.shape[1:]
        if self._all_filled:
            return values.reshape(n, self.group_size, *trailing)
        groups = values.new_zeros(n, self.group_size, *trailing)
        return groups.masked_scatter(self._shaped_like(groups), values)

    def join(self, groups: Tensor) -> Tensor:
        if self._all_filled:
            return groups.reshape(self.num_inputs, *groups.shape[2:])
        return groups[self._filled.to(groups.device)]

    def _shaped_like(self, groups: Tensor) -> Tensor:
        return self._filled.to(groups.device).reshape(*self._filled.shape, *[1] * (groups.ndim - 2))

    @property
    def mask(self) -> Tensor | None:
        return None if self._all_filled else self._filled
