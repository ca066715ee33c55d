"""The notebook runs from its first cell to its last, on the built-in picture and on one of the reader's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest
import torch

ROOT = Path(__file__).parent.parent
CELLS = json.loads((ROOT / "examples" / "fit_image.ipynb").read_text())["cells"]
CODE = ["".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code"]


def changed(code: str, line: str, instead: str) -> str:
    """The code with another line in the place of one that it must have."""
    assert code.count(line) == 1
    return code.replace(line, instead)


def gain(names: dict[str, Any]) -> float:
    """What the adjusted training is ahead of the plain one, in dB."""
    return names["psnr"](names["adjusted_losses"][-1]) - names["psnr"](names["plain_losses"][-1])


@pytest.mark.filterwarnings("ignore:FigureCanvasAgg is non-interactive")
def test_the_notebook_runs_and_shows_a_gain():
    first, *middle, last = CODE
    picture = ROOT / "docs" / "pictures" / "report.png"
    names: dict[str, Any] = {}
    plt.switch_backend("Agg")
    for code in (changed(first, "STEPS = 400", "STEPS = 40"), *middle):
        exec(code, names)
    assert gain(names) > 0
    spectrum = names["spectrum"]
    assert torch.allclose(spectrum.rebalanced[:20], spectrum.eigenvalues[20])
    exec(changed(last, "MY_PICTURE = None", f"MY_PICTURE = {str(picture)!r}"), names)
    assert gain(names) > 0
    plt.close("all")


def test_the_notebook_is_kept_without_outputs():
    assert [cell for cell in CELLS if cell.get("outputs") or cell.get("execution_count")] == []
