"""Pictures of results."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image

matplotlib.use("Agg")

import matplotlib.pyplot as plt


def view_sheet(
    pairs: list[tuple[np.ndarray, np.ndarray]], path: Path, titles: tuple[str, str, str] | None = None
) -> None:
    """Ground truth, rendering and absolute error of some views, one view per column.

    Args:
        pairs: ``(truth, rendering)`` of each view, ``(H, W, 3)`` in [0, 1].
        path: PNG to write.
        titles: Names of the three rows.

    Raises:
        ValueError: If there is no view.
    """
    if not pairs:
        raise ValueError("Need at least one view to draw.")
    names = titles or ("ground truth", "rendering", "absolute error x 4")
    figure, axes = plt.subplots(3, len(pairs), figsize=(2.4 * len(pairs), 7.2), squeeze=False, layout="constrained")
    for column, (truth, rendering) in enumerate(pairs):
        images = (truth, rendering, np.clip(4 * np.abs(truth - rendering), 0, 1))
        for row, image in enumerate(images):
            axis = axes[row, column]
            axis.imshow(np.clip(image, 0, 1), interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
            if column == 0:
                axis.set_ylabel(names[row])
    figure.savefig(path, dpi=120)
    plt.close(figure)


def read_side_by_side(path: Path, parts: int) -> list[np.ndarray]:
    """Cut a picture of several images side by side into them, ``(H, W, 3)`` in [0, 1] each."""
    picture = np.asarray(Image.open(path).convert("RGB")) / 255.0
    return np.split(picture, parts, axis=1)
