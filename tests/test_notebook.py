"""The notebook runs from its first cell to its last, on the built-in picture and on one of the reader's."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest
import torch

from docs_build import pages_outside_docs

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


def test_what_the_notebook_shows_is_kept_with_it():
    """After a change of it: ``jupyter nbconvert --to notebook --execute --inplace
    --ExecutePreprocessor.record_timing=False examples/fit_image.ipynb``."""
    run = [cell["execution_count"] for cell in CELLS if cell["cell_type"] == "code"]
    assert run == list(range(1, len(CODE) + 1))
    outputs = [output for cell in CELLS for output in cell.get("outputs", [])]
    assert [output["output_type"] for output in outputs if "image/png" not in output.get("data", {})] == ["stream"]
    shown = pages_outside_docs.notebook()
    assert shown.count("(data:image/png;base64,") == len(outputs) - 1 == sum("plt.show()" in code for code in CODE)
    plain, adjusted = map(float, re.findall(r"([\d.]+) dB", shown))
    assert adjusted > plain
