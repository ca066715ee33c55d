"""Pictures of the pages: learning curves beside each other, and heat maps over the training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from iga_nerfstudio.benchmark.curves import Curve
from iga_nerfstudio.colours import OKABE_ITO

# The reference's first.
COLOURS = tuple(OKABE_ITO.values())
HeatMap = tuple[str, Any, int, Sequence[Any]]
STYLES = ("-", "--", ":", "-.")


def panels_of(count: int, width: float = 5.5, height: float = 4.0, rows: int = 1) -> tuple[Any, Any]:
    """A figure of some panels: the figure, and its axes ``(rows, count)``."""
    figure = Figure(figsize=(width * count, height * rows), dpi=110, layout="constrained")
    return figure, figure.subplots(rows, count, squeeze=False)


def draw_curves(
    panels: Mapping[Any, Mapping[str, Curve]], path: Path, quantity: str, over: str = "steps", scale: str = "linear"
) -> None:
    """Draw the learning curves of a quantity, by title and name, one legend for all panels."""
    figure, axes = panels_of(len(panels))
    names = list(dict.fromkeys(name for curves in panels.values() for name in curves))
    looks = {
        name: {"color": COLOURS[i % len(COLOURS)], "linestyle": STYLES[i // len(COLOURS) % len(STYLES)]}
        for i, name in enumerate(names)
    }
    for axis, (title, curves) in zip(axes[0], panels.items(), strict=True):
        for name, curve in curves.items():
            axis.plot(*zip(*curve, strict=True), marker=".", label=name, **looks[name])
        axis.set(title=title, xlabel=over, yscale=scale)
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel(quantity)
    handles = {label: h for axis in axes[0] for h, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside right center", fontsize="small")
    figure.savefig(path)


def draw_heat_maps(rows: Sequence[Sequence[HeatMap]], path: Path) -> None:
    """Draw heat maps of tones' errors over the training, the lowest tone below; titles, errors ``(steps, tones)``."""
    figure, axes = panels_of(len(rows[0]), 2.6, 1.7, rows=len(rows))
    for row, maps in zip(axes, rows, strict=True):
        for axis, (title, errors, last_step, tones) in zip(row, maps, strict=True):
            place = (0, last_step, -0.5, len(tones) - 0.5)
            looks = {"aspect": "auto", "origin": "lower", "cmap": "magma_r", "interpolation": "nearest"}
            picture = axis.imshow(np.array(errors).T, vmin=0, vmax=1, extent=place, **looks)
            axis.set_yticks(range(len(tones)), [f"{float(tone):g}" for tone in tones], fontsize="x-small")
            axis.tick_params(labelsize="x-small")
            axis.set_title(title, fontsize="x-small")
    for row in axes:
        row[0].set_ylabel("frequency (Hz)", fontsize="x-small")
    for axis in axes[-1]:
        axis.set_xlabel("step", fontsize="x-small")
    figure.colorbar(picture, ax=axes, label="relative DFT error (Eq. 6)")
    figure.savefig(path)
