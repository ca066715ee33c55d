"""``--compare``: the plain run beside the adjusted one, in one report."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from iga_nerfstudio.tasks import trainer as trainer_module
from iga_nerfstudio.tasks.cli import parse
from iga_nerfstudio.tasks.compare import sentence
from iga_nerfstudio.tasks.config_files import read_preset
from iga_nerfstudio.tasks.image import ImageConfig
from tests.tasks.test_cli import iga_image, iga_sdf, iga_signal, the_run
from tests.tasks.test_report import pictures_in

QUICK = ["--max-num-iterations", "6", "--network.hidden-dim", "16", "--vis", "none", "--machine.device-type", "cpu"]


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture(scope="module")
def whole(photo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a comparison that nothing has stopped."""
    out = tmp_path_factory.mktemp("whole")
    assert iga_image("--data", photo, "--adjustment.end", 5, *QUICK, "--compare", "--output-dir", out) == 0
    return the_run(out)


def metrics(folder: Path) -> dict[str, object]:
    return dict(json.loads((folder / "metrics.json").read_text()))


@pytest.mark.parametrize("flag", [["--compare"], ["--compare", "True"], ["--compare=True"], ["--compare", "False"]])
def test_the_flag_needs_no_value(flag: list[str]) -> None:
    for words in ([*flag, "--vis", "none"], ["--vis", "none", *flag]):
        assert parse(ImageConfig, words).compare == (flag[-1] != "False")


def test_both_runs_are_those_that_one_would_train_alone(photo: Path, whole: Path, tmp_path: Path) -> None:
    run = whole
    for name, enabled, folder in (("iga", True, run), ("plain", False, run / "plain")):
        words = ["--data", photo, "--adjustment.end", 5, "--adjustment.enabled", enabled]
        assert iga_image(*words, "--output-dir", tmp_path / name, *QUICK) == 0
        expected = metrics(the_run(tmp_path / name))
        for key in ("adjusted", "metrics", "best", "steps", "evaluations"):
            assert metrics(folder)[key] == expected[key], key
    page = (run / "report.html").read_text()
    both = [pictures_in((folder / "report.html").read_text())["reconstruction"] for folder in (
        the_run(tmp_path / "plain"), the_run(tmp_path / "iga"))]  # fmt: skip
    shown = pictures_in(page)
    assert np.array_equal(shown["plain"], both[0])
    assert np.array_equal(shown["adjusted"], both[1])
    assert not np.array_equal(*both)
    assert {"ground truth", "error, plain and adjusted", "spectrum, plain", "training: loss and metrics"} <= set(shown)
    numbers = [metrics(folder)["metrics"]["psnr"] for folder in (run / "plain", run)]  # type: ignore[index]
    assert "PSNR is {:.2f} dB plain and {:.2f} dB adjusted".format(*numbers) in page
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "http" not in page


def test_a_shape_and_a_signal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, y, z = np.mgrid[-1:1:12j, -1:1:14j, -1:1:16j]
    np.save(tmp_path / "v.npy", x**2 + y**2 + z**2 < 0.7)
    words = ["--group-size", 16, "--groups-per-batch", 32, "--compare", "--output-dir", tmp_path / "shape", *QUICK]
    assert iga_sdf("--data", tmp_path / "v.npy", *words) == 0
    assert (
        iga_signal("--frequencies", 3, "--num-samples", 256, "--compare", "--output-dir", tmp_path / "s", *QUICK) == 0
    )
    assert len(re.findall(r"After 6 steps each, (IoU|PSNR) is .* plain and .* adjusted", capsys.readouterr().out)) == 2
    page = (the_run(tmp_path / "shape") / "report.html").read_text()
    assert {"plain", "adjusted", "slices, plain", "slices, adjusted"} <= set(pictures_in(page))
    assert re.search(r"The slice z = [^ ]+, number \d+ of \d+, with x to the right and y up", page)
    assert {"signal, plain", "signal, adjusted"} <= set(
        pictures_in((the_run(tmp_path / "s") / "report.html").read_text())
    )


@pytest.mark.parametrize("stopped", ["adjusted", "plain"])
def test_a_stopped_comparison_goes_on_where_it_was(
    photo: Path,
    whole: Path,
    tmp_path: Path,
    stopped: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["--data", photo, "--adjustment.end", 5, *QUICK, "--compare"]
    step = trainer_module.Trainer.step

    def step_and_stop(self: trainer_module.Trainer) -> None:
        step(self)
        if self.record.steps == 4 and self.adjuster.enabled == (stopped == "adjusted"):
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(trainer_module.Trainer, "step", step_and_stop)
    assert iga_image(*words, "--output-dir", tmp_path / "parts") == 130
    run = the_run(tmp_path / "parts")
    # What is to be continued is the comparison, whichever of the two was under way.
    assert f"iga-image --load-dir {run}\n" in capsys.readouterr().out
    assert (run / "report.html").exists() == (stopped == "plain")
    monkeypatch.setattr(trainer_module.Trainer, "step", step)
    assert iga_image("--load-dir", run) == 0
    assert "PSNR is" in (run / "report.html").read_text()
    for folder in ("", "plain"):
        assert metrics(run / folder)["evaluations"] == metrics(whole / folder)["evaluations"]


def test_a_plain_run_is_added_to_a_finished_one(
    photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert iga_image("--data", photo, "--adjustment.end", 5, "--output-dir", tmp_path / "out", *QUICK) == 0
    run = the_run(tmp_path / "out")
    before = metrics(run)["evaluations"]
    capsys.readouterr()
    assert iga_image("--load-dir", run, "--compare", "--max-num-iterations", 9) == 2
    output = capsys.readouterr().out.strip()
    assert "max_num_iterations would be others from now on" in output
    assert "\n" not in output
    assert not (run / "plain").exists()
    assert iga_image("--load-dir", run, "--compare") == 0
    assert metrics(run)["evaluations"] == before
    assert not metrics(run / "plain")["adjusted"]
    assert not read_preset(str(run / "plain" / "config.yml"), ImageConfig).compare
    # Both go on together.
    assert iga_image("--load-dir", run, "--max-num-iterations", 9) == 0
    assert [metrics(folder)["steps"] for folder in (run, run / "plain")] == [9, 9]


@pytest.mark.parametrize("words", [["--adjustment.enabled", "False"], ["--adjustment.end", "0"]])
def test_a_plain_run_has_nothing_to_be_compared_with(
    photo: Path, tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert iga_image("--data", photo, "--output-dir", tmp_path / "out", "--compare", *words) == 2
    output = capsys.readouterr().out.strip()
    assert f"beside an adjusted one, but {words[0]} is {words[1]}." in output
    assert "\n" not in output
    assert not (tmp_path / "out").exists()


def test_the_sentence() -> None:
    told = "After 9 steps each, PSNR is 20.00 dB plain and 18.50 dB adjusted: 1.50 dB less."
    assert sentence("psnr", 20.0, 18.5, 9) == told
    assert sentence("iou", 0.5, 0.75, 9) == "After 9 steps each, IoU is 0.5000 plain and 0.7500 adjusted: 0.2500 more."
    assert sentence("psnr", 20.0, float("inf"), 9) == "After 9 steps each, PSNR is 20.00 dB plain and inf dB adjusted."
