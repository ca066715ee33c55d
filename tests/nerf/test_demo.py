"""The demo: both trainings at once, and both in its picture. The commands themselves are tested elsewhere."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from iga_nerfstudio import demo as demo_module
from iga_nerfstudio.demo import Demo, run_demo


@pytest.mark.parametrize("compare", [True, False])
def test_both_trainings_run_at_once_and_differ_in_the_adjustment_alone(
    tmp_path: Path, compare: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = 2 if compare else 1
    trained: list[dict[str, Any]] = []
    together = threading.Barrier(number, timeout=30)

    def train(method: str, settings: dict[str, Any], log: Path, threads: int) -> None:
        together.wait()
        trained.append(settings)
        (tmp_path / "demo" / method / settings["--timestamp"]).mkdir(parents=True)

    def evaluate(run: Path, threads: int) -> dict[str, float]:
        return {"psnr": 20.0 if "plain" in run.name else 25.0, "ssim": 0.5}

    monkeypatch.setattr(demo_module, "write_demo_scene", lambda data: None)
    monkeypatch.setattr(demo_module, "train", train)
    monkeypatch.setattr(demo_module, "evaluate", evaluate)
    monkeypatch.setattr(demo_module, "read_test_views", lambda run: [(np.zeros((4, 4, 3)), np.ones((4, 4, 3)))] * 3)
    with (tmp_path / "out.txt").open("w") as file:
        run_demo(Demo(tmp_path / "scene", tmp_path, 7, compare), Console(file=file, width=200))
    ways = {settings.pop("--pipeline.model.adjustment.enabled"): settings for settings in trained}
    assert set(ways) == ({True, False} if compare else {True})
    names = [settings.pop("--timestamp") for settings in ways.values()]
    assert len(set(names)) == number
    assert all(settings == ways[True] for settings in ways.values())
    output = (tmp_path / "out.txt").read_text()
    assert ("20.00" in output) == compare
    assert "25.00" in output
    (sheet,) = tmp_path.glob("demo/*/*/test_views.png")
    assert not sheet.parent.name.endswith("plain")
    assert Image.open(sheet).size[1] == pytest.approx(2.4 * 120 * (1 + 2 * number), abs=2)
