"""What data can be: words that settings and readers share, told without what reads it."""

from __future__ import annotations

from typing import Literal

ShapeTarget = Literal["occupancy", "distance"]
"""What a voxel holds: whether it lies inside, or its signed distance from the surface."""

PaperSignal = Literal["experiment1", "experiment2", "experiment2_relu"]
"""The paper's signals (Sec. 4)."""
