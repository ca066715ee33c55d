"""NeRFs by every method: what is trained and how it is judged, on a tiny scene by the real commands."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from iga_nerfstudio.benchmark.paper import scene_settings
from iga_nerfstudio.benchmark.studies import methods, nerf
from iga_nerfstudio.benchmark.studies.methods import METHODS, why_not
from iga_nerfstudio.benchmark.studies.nerf import FULL, PRESETS, Nerf, command_of_run
from iga_nerfstudio.benchmark.study import Figures
from iga_nerfstudio.benchmark.sweep import train_all
from iga_nerfstudio.nerf.commands import CommandError, OutOfTimeError, run_command

SMOKE = PRESETS["smoke"]


def measured(study: Nerf, records: Path) -> Figures:
    return study.settings() | study.measure(lambda trainings: train_all(trainings, records, 1, lambda _: None))


@pytest.mark.timeout(600)
def test_a_pair_is_trained_rendered_judged_and_shown_by_nerfstudios_commands(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = replace(SMOKE, data=(scene,), steps=12, test_skip=2, curve_points=2, runs=tmp_path / "runs")
    study = replace(study, methods=(*study.methods, "splatfacto"))
    figures = measured(study, tmp_path / "records")
    adjusted, plain = figures["trainings"]
    assert [run["method"] for run in (adjusted, plain)] == ["iga-nerf-tiny", "iga-nerf-tiny-plain"]
    for run in (adjusted, plain):
        assert (run["scene"], run["seed"], run["steps"]) == (scene.name, 42, 12)
        assert len(run["psnr_of_views"]) == 2
        assert run["psnr"] == pytest.approx(np.mean(run["psnr_of_views"]), abs=0.01)
        assert 3 < run["worst_psnr"] < run["psnr"] < 40 > run["coarse_psnr"] > 3
        assert run["parameters"] == 55752
        assert 100 < run["host_mb"] < 100_000
        assert run["seconds"] == pytest.approx(12 * run["milliseconds_per_step"] / 1000)
        assert [step for step, _ in run["curve"]] == [6, 12]
    assert figures["not_run"] == [{"method": "splatfacto", "reason": "needs a CUDA GPU"}]
    names = sorted(path.name.rsplit("-", 1)[0] for path in (tmp_path / "records").iterdir())
    assert names == ["demo-iga-nerf-tiny-42", "demo-iga-nerf-tiny-plain-42"]
    # Once more: nothing is trained again.
    monkeypatch.setattr(nerf, "run_command", None)
    assert measured(study, tmp_path / "records") == figures

    page = Nerf.section(figures, "nerf")
    Nerf.draw(figures, tmp_path / "nerf")
    gain = adjusted["psnr"] - plain["psnr"]
    assert f"| iga-nerf-tiny | {adjusted['psnr']:.2f} | {gain:+.2f} ({int(gain > 0)} of 1) |" in page
    assert "- splatfacto: needs a CUDA GPU." in page
    assert "GPU memory" not in page
    for picture in (f"nerf_{scene.name}_curves.png", f"nerf_{scene.name}.png"):
        assert f"]({picture})" in page
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")


def test_one_that_fails_is_told_one_that_diverges_is_a_result_and_the_others_go_on(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pretend(*words: object, log: Path, seconds: float | None = None) -> int:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("Training diverged: loss is nan (rate 3.0e-03). Use another." if "iga-nerf" in words else "")
        raise CommandError("no luck.")

    monkeypatch.setattr(nerf, "run_command", pretend)
    study = replace(SMOKE, data=(scene,), methods=("nerfacto", "iga-nerf"), runs=tmp_path / "runs")
    figures = measured(study, tmp_path / "records")
    assert figures["not_run"] == [{"method": "nerfacto", "reason": "not finished on demo with seed 42: no luck"}]
    (run,) = figures["trainings"]
    assert (run["method"], run["diverged"]) == ("iga-nerf", "loss is nan (rate 3.0e-03)")
    assert len(list((tmp_path / "records").iterdir())) == 1
    page = Nerf.section(figures, "nerf")
    assert "- nerfacto: not finished on demo with seed 42: no luck.\n" in page
    assert "| iga-nerf | 1 diverged |" in page
    Nerf.draw(figures, tmp_path / "nerf")


def test_in_pieces_it_goes_on_where_it_was_stopped(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a GPU for some minutes at a time; that resuming is exact is tested with the trainer."""
    commands: list[tuple[object, ...]] = []

    def pretend(*words: object, log: Path, seconds: float | None = None) -> int:
        commands.append(words)
        assert seconds is None or 0 < seconds <= 60
        folder = log.with_suffix("") / "nerfstudio_models"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"step-{3 * len(commands) - 1:09d}.ckpt").touch()
        log.touch()
        raise OutOfTimeError("time was up") if len(commands) < 3 else CommandError("far enough")

    monkeypatch.setattr(nerf, "run_command", pretend)
    study = replace(SMOKE, data=(scene,), methods=("nerfacto",), steps=9, minutes=1, runs=tmp_path / "runs")
    reasons = [measured(study, tmp_path / "records")["not_run"][0]["reason"] for _ in range(3)]
    assert reasons == [f"not finished on demo with seed 42: {why}" for why in ("time was up",) * 2 + ("far enough",)]
    assert "--load-dir" not in commands[0]
    # nerfstudio's own trainer takes so many steps more.
    assert [words[words.index("--max-num-iterations") + 1] for words in commands] == [9, 6, 3]
    assert all(Path(str(words[words.index("--load-dir") + 1])).is_dir() for words in commands[1:])
    assert not list((tmp_path / "records").glob("*"))


def test_a_command_is_stopped_when_its_time_is_up(tmp_path: Path) -> None:
    with pytest.raises(OutOfTimeError, match="python was stopped"):
        run_command("python", "-c", "import time; time.sleep(60)", log=tmp_path / "log", seconds=0.5)
    with pytest.raises(OutOfTimeError, match="no time left"):
        run_command("python", "-c", "", seconds=0)
    assert run_command("python", "-c", "", seconds=60) > 0


@pytest.mark.parametrize("method", ["nerfacto", "iga-nerf-tiny"])
def test_a_budget_of_seconds_becomes_steps(
    method: str, scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the median of the trial's later steps, 0.5 s here; all of a trial's are adjusted."""
    commands: list[tuple[object, ...]] = []

    def pretend(*arguments: object, log: Path, seconds: float | None = None) -> int:
        commands.append(arguments)
        if "ns-eval" in arguments:
            raise CommandError("far enough")
        return 1

    times = [(0, 9.0), (10, 8.0), (60, 0.4), (70, 0.5), (80, 7.0)]
    monkeypatch.setattr(nerf, "run_command", pretend)
    monkeypatch.setattr(nerf, "_scalars", lambda _folder: {nerf.ITERATION_TIME: times})
    study = replace(SMOKE, data=(scene,), steps=None, seconds=30.0, methods=(method,), runs=tmp_path)
    measured(study, tmp_path)
    trial, training, _ = commands
    if method == "iga-nerf-tiny":
        untils = [words[words.index(nerf.UNTIL) + 1] for words in (trial, training)]
        assert untils == ["1.0", str(METHODS[method].options[nerf.UNTIL])]
    assert trial[trial.index("--max-num-iterations") + 1] == 200
    assert training[training.index("--max-num-iterations") + 1] == 60


def test_truth_and_rendering_are_found_in_every_methods_pictures(tmp_path: Path) -> None:
    """Panels of shades 0, 100, 200: nerfstudio's NeRF has its rendering last, ours before the coarse one."""
    for name, shade in (("vanilla-nerf", 200), ("iga-nerf", 100), ("nerfacto", 100)):
        folder = tmp_path / name
        (folder / nerf.TEST_VIEWS).mkdir(parents=True)
        panels = [np.full((4, 5, 3), 100 * panel, np.uint8) for panel in range(METHODS[name].panels)]
        Image.fromarray(np.concatenate(panels, axis=1)).save(folder / nerf.TEST_VIEWS / "eval_img_0.png")
        ((truth, rendering),) = nerf.read_views(folder, METHODS[name])
        assert (truth.shape, truth.max(), rendering.min()) == ((4, 5, 3), 0.0, shade / 255)


def test_scenes_of_the_paper_have_their_settings() -> None:
    group = "--pipeline.model.adjustment."
    theirs = {f"{group}kernel-of": "samples", f"{group}floor": 0, f"{group}until": 1}
    assert scene_settings("ficus") == {f"{group}end": 30} | theirs
    others = ("ship", "materials", "chair", "hotdog", "drums", "mic", "lego")
    assert all(scene_settings(scene) == {f"{group}end": 25} | theirs for scene in others)
    assert scene_settings("garden") == {}


def test_a_plain_training_is_the_same_however_long_the_other_one_is_adjusted() -> None:
    for name in ("iga-nerf", "iga-nerf-muon", "iga-nerf-tiny"):
        plain, adjusted = (METHODS[method].at("small", "lego").options for method in (f"{name}-plain", name))
        assert adjusted.keys() - plain.keys() == {nerf.UNTIL}


def command_of(study: Nerf) -> str:
    """The ns-train command of its last training."""
    settings = list(study.trainings())[-1].configuration
    return " ".join(map(str, command_of_run(settings, settings["timestamp"], study.steps or 7, study.curve_points)))


def test_the_full_preset_is_the_papers() -> None:
    full = replace(PRESETS["full"], data=(Path("data/ficus"),))
    assert {name: getattr(full, name) for name in FULL} == FULL
    assert (full.downscale_factors, full.methods, full.seeds) == ((2,), ("iga-nerf-plain", "iga-nerf-paper"), (42,))
    command = command_of(full)
    assert command.startswith("ns-train iga-nerf --data data/ficus ")
    assert command.endswith(" iga-blender --downscale-factor 2 --test-skip 8")
    for words in ("--max-num-iterations 200000", "fields.scheduler.decay-steps 250000", "adjustment.end 30"):
        assert f"{words} " in command


def test_runs_at_other_sizes_have_other_folders() -> None:
    tiny = replace(SMOKE, data=(Path("ficus"),), methods=("iga-nerf-tiny",))
    changes: tuple[dict[str, Any], ...] = (
        *({}, {"steps": 6}, {"downscale_factors": (2,)}, {"test_skip": 2}, {"seeds": (43,)}, {"decay_steps": 9}),
        {"methods": ("iga-nerf-tiny-plain",)},
        {"mixed_precision": True},
    )
    found = [next(replace(tiny, **change).trainings()) for change in changes]
    assert len({training.configuration["timestamp"] for training in found}) == len(changes)
    assert next(replace(tiny, runs=Path("elsewhere")).trainings()).key == found[0].key
    command = command_of(tiny)
    assert "--mixed-precision" not in command
    assert " --mixed-precision True " in command_of(replace(tiny, mixed_precision=True))
    assert "scheduler.decay-steps 5 " in command
    assert "adjustment.end" not in command


def test_what_cannot_run_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(methods, "find_spec", lambda name: None if name == "tinycudann" else object())
    assert why_not("instant-ngp", "cuda") == "needs tinycudann, which is not installed"
    assert why_not("splatfacto", "cpu") == "needs a CUDA GPU"
    assert why_not("splatfacto", "cuda") is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": None}, "one budget"),
        ({"seconds": 5.0}, "one budget"),
        ({"seeds": ()}, "at least one seed"),
        ({"methods": ("nerf",)}, "methods of iga-nerf"),
        ({"data": ()}, "a factor each"),
        ({"data": (Path("a/lego"), Path("b/lego")), "downscale_factors": (1, 1)}, "different names"),
        ({}, "There is no scene nowhere"),
    ],
)
def test_what_cannot_be_trained_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        measured(replace(SMOKE, **{"data": (Path("nowhere"),), **change}), tmp_path)


def test_gains_are_paired_and_the_papers_rows_beside_where_it_trained_on_the_scene() -> None:
    def run(scene: str, method: str, seed: int, psnr: float, **more: Any) -> dict[str, Any]:
        outcome = {"psnr": psnr, "median_psnr": psnr + 2, "worst_psnr": psnr - 1, "coarse_psnr": 18.0}
        return {"scene": scene, "method": method, "seed": seed, "steps": 7} | outcome | more

    runs = [
        *(run("lego", "iga-nerf-plain", 1, 20.0), run("lego", "iga-nerf-plain", 2, 22.0)),
        *(run("lego", "iga-nerf", 1, 21.0, ssim=0.5), run("lego", "iga-nerf", 2, 21.0, ssim=0.7)),
        *(run("mine", "iga-nerf-plain", 1, 20.0), run("mine", "iga-nerf", 1, 22.0)),
    ]
    full = replace(PRESETS["full"], data=(Path("lego"), Path("mine")), downscale_factors=(2, 2))
    figures = full.settings() | {"trainings": runs, "not_run": []}
    page = Nerf.section(figures, "nerf")
    lego, mine = page.split("### ")[1:]
    assert "| iga-nerf | 21.00 ± 0.00 | +0.00 ± 1.41 (1 of 2) | 23.00 | 20.0 | 0.6000 |  | 18.00 | 7 |" in lego
    assert "| paper, IGA | 31.83 | +0.30 |  |  | 0.9648 | 0.017 |" in lego
    assert "paper" not in mine
    assert "- iga-nerf over iga-nerf-plain: mean of the views +0.67 ± " in page
    assert "(2 of 3) dB, median view +0.67 ± " in page
    assert "one of 8 test views" in page
    assert "The sizes are the paper's." in page
    assert "The sizes are not the paper's" in Nerf.section(figures | {"methods": ["iga-nerf", "nerfacto"]}, "nerf")
