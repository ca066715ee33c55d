"""The kernel's spectrum as interactive plots for the viewer."""

from __future__ import annotations

import plotly.graph_objects as go

from iga_nerfstudio.adjustment.history import Spectrum
from iga_nerfstudio.colours import OKABE_ITO

# Those that are seen on the viewer's dark ground.
BEFORE, AFTER = OKABE_ITO["sky blue"], OKABE_ITO["orange"]
TARGET, RANK = OKABE_ITO["reddish purple"], OKABE_ITO["bluish green"]
_GRID = "#444444"


def spectrum_figure(spectrum: Spectrum | None) -> go.Figure:
    """The leading eigenvalues before and after the rebalancing, and the target.

    Args:
        spectrum: What to show; empty axes if None.
    """
    figure = _figure("eigenvalue number")
    if spectrum is not None:
        numbers = list(range(1, len(spectrum.eigenvalues) + 1))
        figure.add_scatter(x=numbers, y=spectrum.eigenvalues.tolist(), name="before", line={"color": BEFORE})
        figure.add_scatter(
            x=numbers, y=spectrum.rebalanced.tolist(), name="after", line={"color": AFTER}, mode="lines+markers"
        )
        if spectrum.target == spectrum.target:
            # Wider than the others, which it lies under.
            ends, target = [0, len(numbers) + 1], [spectrum.target] * 2
            figure.add_scatter(x=ends, y=target, name="target", mode="lines", line={"color": TARGET, "dash": "dot"})
    return figure


def history_figure(spectra: list[Spectrum]) -> go.Figure:
    """Largest eigenvalue, target and effective rank over the steps.

    Args:
        spectra: What to show, oldest first.
    """
    figure = _figure("adjusted step")
    steps = [spectrum.step for spectrum in spectra]
    leading = [float(spectrum.eigenvalues[0]) for spectrum in spectra]
    figure.add_scatter(x=steps, y=leading, name="largest", line={"color": BEFORE})
    figure.add_scatter(x=steps, y=[spectrum.target for spectrum in spectra], name="target", line={"color": TARGET})
    ranks = [spectrum.effective_rank for spectrum in spectra]
    figure.add_scatter(x=steps, y=ranks, name="rank", line={"color": RANK, "dash": "dot"})
    return figure


def _figure(x_title: str) -> go.Figure:
    return go.Figure(
        layout={
            # plotly's own would be most of every message.
            "template": "none",
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "#111111",
            "margin": {"l": 45, "r": 10, "t": 30, "b": 35},
            "font": {"size": 10, "color": "#eeeeee"},
            "xaxis": {"title": {"text": x_title}, "gridcolor": _GRID, "zeroline": False},
            "yaxis": {"type": "log", "exponentformat": "power", "gridcolor": _GRID, "nticks": 5},
            "legend": {"orientation": "h", "y": 1.02, "x": 1, "xanchor": "right", "yanchor": "bottom"},
        }
    )
