"""What readers of signals give."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

MAX_CHANNELS = 16
"""Most channels of a signal or an image. An array with more is more likely the wrong way round."""


class Samples(NamedTuple):
    """What a file holds, ``values`` being ``(N, C)`` in any real type."""

    values: NDArray[Any]
    rate: float
    start: float
    unit: str


def count_bad(values: NDArray[Any]) -> int:
    return int((~np.isfinite(values)).sum())
