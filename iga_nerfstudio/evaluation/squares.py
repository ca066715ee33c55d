"""Large maps shrunk to what a figure can show."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def side_of_squares(shape: Sequence[int], largest_side: int) -> int:
    """Side of the smallest squares of which a map has no more than so many along either axis.

    Args:
        shape: Height and width of the map.
        largest_side: Most squares along an axis.
    """
    return max(math.ceil(max(shape) / largest_side), 1)


def means_over_squares(values: np.ndarray, side: int) -> np.ndarray:
    """Means of a map over squares, the first in its first corner; those at the end of an axis may be cut off.

    Args:
        values: ``(H, W)``, floating.
        side: Side of a square.

    Returns:
        ``(ceil(H / side), ceil(W / side))``; ``values`` itself where the side is 1.
    """
    if side == 1:
        return values
    starts = [np.arange(0, length, side) for length in values.shape]
    sums = np.add.reduceat(np.add.reduceat(values, starts[0], axis=0), starts[1], axis=1)
    heights, widths = (np.diff(first, append=length) for first, length in zip(starts, values.shape, strict=True))
    return sums / (heights[:, None] * widths[None, :])
