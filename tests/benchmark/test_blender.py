"""Blender scenes by every method: the protocol, on a tiny scene by the real commands."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image

from iga_nerfstudio.benchmark import blender, peers
from iga_nerfstudio.benchmark.studies.nerf import Protocol, measure_blender
from iga_nerfstudio.benchmark.blender_page import blender_table
from iga_nerfstudio.benchmark.studies.peers import METHODS, Peer, scene_options, why_not
from iga_nerfstudio.benchmark.record import write_result
from iga_nerfstudio.benchmark.report import write_report
from tests.benchmark.test_cost import MUON

ROOT = Path(__file__).parent.parent.parent
PROTOCOL = Protocol(
    downscale_factor=1,
    test_skip=2,
    steps=12,
    seconds=None,
    size="small",
    curve_points=2,
    seed=0,
    device="cpu",
)


def test_a_method_is_trained_rendered_and_measured_by_nerfstudios_commands(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    methods: tuple[Peer, ...] = ("iga-nerfacto", "splatfacto")

    def measure() -> dict[str, Any]:
        return measure_blender(scene.parent, (scene.name,), methods, PROTOCOL, tmp_path / "runs", told.append)

    figures = measure()
    (run,) = figures["runs"]
    assert (run["method"], run["scene"], run["steps"]) == ("iga-nerfacto", scene.name, 12)
    assert len(run["psnr_of_views"]) == 2
    assert run["psnr"] == pytest.approx(np.mean(run["psnr_of_views"]), abs=0.01)
    assert 3 < run["psnr"] < 40
    assert run["parameters"] > 8 * 2**15 * 2
    assert 1e8 < run["peak_host_bytes"] < 1e11
    assert run["seconds"] == pytest.approx(12 * run["seconds_per_step"])
    assert [point["step"] for point in run["curve"]] == [6]
    assert figures["not_run"] == [{"method": "splatfacto", "reason": "needs a CUDA GPU"}]
    assert len(told) == 1
    # Once more: nothing is trained again.
    monkeypatch.setattr(blender, "run_command", None)
    assert measure() == figures

    write_result(tmp_path / "results" / "blender.json", figures)
    write_result(tmp_path / "results" / "muon_step.json", json.loads(MUON))
    write_report(tmp_path / "results", tmp_path / "docs")
    page = (tmp_path / "docs" / "results" / "blender.md").read_text()
    assert blender_table(figures) in page
    assert f"| {run['psnr']:.2f} |" in page
    assert "- splatfacto: needs a CUDA GPU." in page
    for picture in ("blender_curves.png", f"blender_{scene.name}.png"):
        assert f"]({picture})" in page
        assert (tmp_path / "docs" / "results" / picture).read_bytes().startswith(b"\x89PNG")


def test_a_failed_run_is_reported_and_the_others_go_on(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blender, "run_command", fail)
    methods: tuple[Peer, ...] = ("nerfacto", "vanilla-nerf")
    figures = measure_blender(scene.parent, (scene.name,), methods, PROTOCOL, tmp_path, lambda _line: None)
    assert [(entry["method"], entry["reason"]) for entry in figures["not_run"]] == [
        ("nerfacto", "failed: no luck"),
        ("vanilla-nerf", "failed: no luck"),
    ]
    assert (figures["runs"], figures["means"]) == ([], [])
    assert "nerfacto on demo: failed: no luck." in blender_table(figures)


def fail(*_arguments: object, **_settings: object) -> int:
    raise RuntimeError("no luck")


def test_a_budget_of_seconds_becomes_steps(scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the median of the trial's later steps, 0.5 s here."""
    commands: list[tuple[object, ...]] = []

    def pretend(*arguments: object, log: Path) -> int:
        commands.append(arguments)
        if "ns-eval" in arguments:
            raise RuntimeError("far enough")
        return 1

    seconds = [(0, 9.0), (10, 8.0), (60, 0.4), (70, 0.5), (80, 7.0)]
    monkeypatch.setattr(blender, "run_command", pretend)
    monkeypatch.setattr(blender, "_scalars", lambda _folder: {blender.ITERATION_TIME: seconds})
    protocol = replace(PROTOCOL, steps=None, seconds=30.0)
    measure_blender(scene.parent, (scene.name,), ("nerfacto",), protocol, tmp_path, lambda _line: None)
    trial, training, _ = commands
    assert trial[trial.index("--max-num-iterations") + 1] == "200"
    assert training[training.index("--max-num-iterations") + 1] == "60"


def test_truth_and_rendering_are_found_in_every_methods_pictures(tmp_path: Path) -> None:
    """Panels of shades 0, 100, 200: nerfstudio's NeRF has its rendering last, ours before the coarse one."""
    for name, shade in (("vanilla-nerf", 200), ("iga-nerf", 100), ("nerfacto", 100)):
        method = METHODS[name]  # type: ignore[index]
        folder = tmp_path / name
        (folder / blender.TEST_VIEWS).mkdir(parents=True)
        panels = [np.full((4, 5, 3), 100 * panel, np.uint8) for panel in range(method.panels)]
        Image.fromarray(np.concatenate(panels, axis=1)).save(folder / blender.TEST_VIEWS / "eval_img_0.png")
        ((truth, rendering),) = blender.read_views(folder, method)
        assert (truth.shape, truth.max(), rendering.min()) == ((4, 5, 3), 0.0, shade / 255)


def test_scenes_of_the_paper_have_their_settings() -> None:
    assert scene_options("ficus") == {"--pipeline.model.adjustment.end": 30}
    others = ("ship", "materials", "chair", "hotdog", "drums", "mic", "lego")
    assert all(scene_options(scene) == {"--pipeline.model.adjustment.end": 25} for scene in others)
    assert scene_options("garden") == {}


def test_what_cannot_run_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "find_spec", lambda name: None if name == "tinycudann" else object())
    assert why_not("instant-ngp", "cuda") == "needs tinycudann, which is not installed"
    assert why_not("splatfacto", "cpu") == "needs a CUDA GPU"
    assert why_not("splatfacto", "cuda") is None
    assert why_not("iga-nerf", "cpu") is None
    assert set(METHODS) == set(get_args(Peer))


@pytest.mark.parametrize("budget", [{}, {"seconds": 5.0}])
def test_one_budget_is_asked_for(budget: dict[str, float], tmp_path: Path) -> None:
    protocol = replace(PROTOCOL, **budget) if budget else replace(PROTOCOL, steps=None)
    with pytest.raises(ValueError, match="one budget"):
        measure_blender(tmp_path, (), ("nerfacto",), protocol, tmp_path)


def test_missing_scenes_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no scene lego"):
        measure_blender(tmp_path, ("lego",), ("nerfacto",), PROTOCOL, tmp_path)
    with pytest.raises(ValueError, match="no scene at all"):
        measure_blender(tmp_path, (), ("nerfacto",), PROTOCOL, tmp_path)
