"""The cost of the viewer: what is timed is a training with a viewer that works."""

from __future__ import annotations

from pathlib import Path

import pytest

from iga_nerfstudio.benchmark import viewer as viewer_module
from iga_nerfstudio.benchmark.record import write_result
from iga_nerfstudio.benchmark.report import render_report
from iga_nerfstudio.benchmark.cost.viewer import ViewedTraining, measure_viewer
from iga_nerfstudio.nerf import viewer_panel


def test_the_three_are_timed_and_the_panel_is_updated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewer_panel, "UPDATE_SECONDS", 0.05)
    updates: list[bool] = []
    watched = [False]
    update, pretend = viewer_panel.AdjustmentPanel._update, ViewedTraining.pretend_to_be_watched

    def counted(self: viewer_panel.AdjustmentPanel) -> None:
        updates.append(watched[0])
        update(self)

    def noted(self: ViewedTraining, now: bool) -> None:
        watched[0] = now
        pretend(self, now)

    monkeypatch.setattr(viewer_panel.AdjustmentPanel, "_update", counted)
    monkeypatch.setattr(viewer_module.ViewedTraining, "pretend_to_be_watched", noted)
    figures = measure_viewer(steps=6, rounds=2, device="cpu", seed=0)
    assert set(figures["seconds_per_step"]) == {"none", "open", "updating"}
    assert all(0 < seconds < 5 for seconds in figures["seconds_per_step"].values())
    # Once when the panel is made, then only while somebody looks.
    assert updates[0] is False
    assert sum(updates) >= 2
    assert len(updates) - sum(updates) <= 3
    write_result(tmp_path / "viewer.json", figures)
    assert f"**{figures['ratios']['updating']:.3f}**" in render_report(tmp_path)
