"""nerfstudio's methods without their own LPIPS, which wants to download weights before training starts.

nerfstudio 1.1.5, where no machine may be off line; not reported upstream.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from torch import Tensor, nn


class NoLPIPS(nn.Module):
    """A metric that is not reported; takes the settings of torchmetrics' and ignores them."""

    def __init__(self, **_settings: object) -> None:
        super().__init__()

    def forward(self, *_images: Tensor) -> float:
        """Not a number."""
        return float("nan")


@contextmanager
def without_lpips() -> Iterator[None]:
    """Models that are built meanwhile report LPIPS as not a number and download nothing."""
    with patch("torchmetrics.image.lpip.LearnedPerceptualImagePatchSimilarity", NoLPIPS):
        yield
