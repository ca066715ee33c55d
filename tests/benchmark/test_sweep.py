"""A sweep's trainings: never taken for others, never repeated, each with its own record."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nerfstudio.engine.trainer import TrainerConfig
from PIL import Image

from iga_nerfstudio.benchmark import sweep
from iga_nerfstudio.benchmark.studies.experiment2 import train_tones
from iga_nerfstudio.benchmark.studies.photographs import train_and_judge, train_photograph
from iga_nerfstudio.benchmark.studies.shapes import train_shape
from iga_nerfstudio.benchmark.sweep import PLACES, Training, as_plain, train_all
from iga_nerfstudio.benchmark.tables import finished
from iga_nerfstudio.nerf.method_configs import iga_nerf_tiny
from iga_nerfstudio.networks import NetworkConfig
from iga_nerfstudio.tasks.config import TaskAdjustmentConfig
from iga_nerfstudio.tasks.image import ImageConfig
from iga_nerfstudio.tasks.sdf import SDFConfig
from iga_nerfstudio.tasks.signal import SignalConfig
from iga_nerfstudio.tasks.trainer import Trainer
from tests.benchmark.sweep_trainings import constant, perfect, slow_square, square

ROOT = Path(__file__).parents[2]


def trainings(*numbers: float) -> list[Training]:
    return [Training({"number": number}, square, number) for number in numbers]


def changed(value: Any) -> Any:
    """Something else."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, Path):
        return value / "other"
    if isinstance(value, tuple | list):
        return (*value, 1)
    return 1 if value is None else "other"


def changes_of(config: Any, path: str = "") -> list[tuple[str, Any]]:
    """Every setting's name, and the configuration with that one changed."""
    found = []
    for field in fields(config):
        value, name = getattr(config, field.name), f"{path}{field.name}"
        if is_dataclass(value) and not isinstance(value, type):
            for inner, other in changes_of(value, f"{name}."):
                found.append((inner, replace(config, **{field.name: other})))
        else:
            found.append((name, replace(config, **{field.name: changed(value)})))
    return found


@pytest.mark.parametrize("kind", [ImageConfig, SDFConfig, SignalConfig])
def test_no_setting_takes_up_a_training_of_another(kind: Any) -> None:
    key = Training({}, square, kind()).key
    assert Training({}, square, kind()).key == key
    for name, config in changes_of(kind()):
        same = name.rsplit(".", 1)[-1] in PLACES
        assert (Training({}, square, config).key == key) == same, name


def test_a_setting_that_came_later_leaves_the_trainings_before_it_their_keys() -> None:
    assert "grouping" not in as_plain(ImageConfig(grouping="patches"))
    assert [as_plain(ImageConfig(grouping=other))["grouping"] for other in ("axes", None)] == ["axes", None]


def test_nor_does_one_of_nerfstudios() -> None:
    config: TrainerConfig = iga_nerf_tiny.config
    plain = as_plain(config)
    assert plain["pipeline"]["model"]["adjustment"]["end"] == config.pipeline.model.adjustment.end
    assert plain["optimizers"]["fields"]["optimizer"]["lr"] == config.optimizers["fields"]["optimizer"].lr
    key = Training({}, square, config).key
    assert Training({}, square, replace(config, max_num_iterations=7)).key != key
    assert Training({}, square, replace(config, output_dir=Path("elsewhere"))).key == key
    assert json.loads(json.dumps(plain)) == plain


def test_data_count_by_their_contents(tmp_path: Path) -> None:
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "x.txt").write_text("one")
    keys = [Training({}, square, {"data": tmp_path / place}).key for place in ("a", "b")]
    assert keys[0] == keys[1]
    (tmp_path / "b" / "x.txt").write_text("two")
    assert Training({}, square, {"data": tmp_path / "b"}).key != keys[0]
    first = Training({}, square, {"data": tmp_path / "a" / "x.txt"}).key
    (tmp_path / "a" / "x.txt").write_text("another one")
    assert Training({}, square, {"data": tmp_path / "a" / "x.txt"}).key != first


def test_what_trainings_leave_beside_the_data_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("one")
    key = Training({}, square, {"data": tmp_path}).key
    (tmp_path / "downscaled_2").mkdir()
    (tmp_path / "downscaled_2" / "x.txt").write_text("one")
    (tmp_path / ".x.7.part.txt").write_text("on")
    assert Training({}, square, {"data": tmp_path}).key == key


def test_another_study_takes_up_the_same_training(tmp_path: Path) -> None:
    told: list[str] = []
    train_all([Training({"study": "one"}, square, 3)], tmp_path, 1, told.append)
    (found,) = train_all([Training({"study": "other"}, square, 3)], tmp_path, 1, told.append)
    assert (found["study"], found["psnr"], len(told)) == ("other", 9, 1)


def test_the_function_and_the_version_count(monkeypatch: pytest.MonkeyPatch) -> None:
    key = Training({}, square, 1).key
    assert Training({}, slow_square, 1).key != key
    assert Training({"other": "label"}, square, 1).key == key
    monkeypatch.setattr(sweep, "__version__", "0.0.0")
    assert Training({}, square, 1).key != key


def test_settings_without_a_plain_form_are_refused() -> None:
    with pytest.raises(TypeError, match="no plain form"):
        as_plain({"x": object()})


@pytest.mark.parametrize("jobs", [1, 2])
def test_trainings_are_not_repeated_and_keep_their_order(jobs: int, tmp_path: Path) -> None:
    told: list[str] = []
    train_all(trainings(3), tmp_path, jobs, told.append)
    found = train_all(trainings(2, 3, 4), tmp_path, jobs, told.append)
    assert [(one["number"], one["psnr"]) for one in found] == [(2, 4), (3, 9), (4, 16)]
    assert len(told) == 3
    assert re.fullmatch(r"2/2, 0:00:0. left: [24] psnr (4|16)", told[-1])
    again = train_all(trainings(4, 3, 2), tmp_path, jobs, told.append)
    assert again == found[::-1]
    assert len(told) == 3


def test_one_that_diverged_is_kept_as_such_and_counted_nowhere(tmp_path: Path) -> None:
    told: list[str] = []
    found = train_all(trainings(2, 13), tmp_path / "runs", 1, told.append)
    assert found[1]["diverged"] == "too much"
    assert "psnr" not in found[1]
    assert [one["number"] for one in finished(found)] == [2]
    assert "diverged (too much)" in told[-1]
    assert train_all(trainings(2, 13), tmp_path / "runs", 1, told.append) == found
    assert len(told) == 2


def test_one_whose_numbers_are_not_finite_has_diverged(tmp_path: Path) -> None:
    (found,) = train_all([Training({}, perfect, 1)], tmp_path, 1, lambda _: None)
    assert found["diverged"] == "psnr is inf after the last step"


def test_one_that_failed_is_told_of_and_tried_again_while_the_others_are_kept(tmp_path: Path) -> None:
    told: list[str] = []
    failed, other = train_all(trainings(17, 2), tmp_path, 1, told.append)
    assert (failed["number"], failed["failed"], other["psnr"]) == (17, "no luck", 4)
    assert told[0].endswith("17 psnr failed (no luck)")
    assert len(list(tmp_path.iterdir())) == 1
    assert train_all(trainings(17, 2), tmp_path, 1, told.append)[1] == other
    assert len(told) == 3


def test_of_two_that_are_the_same_one_is_run_and_each_keeps_its_labels(tmp_path: Path) -> None:
    told: list[str] = []
    pair = [Training({"way": name}, square, 3) for name in ("first", "second")]
    found = train_all(pair, tmp_path, 1, told.append)
    assert len(told) == 1
    assert [(one["way"], one["psnr"]) for one in found] == [("first", 9), ("second", 9)]


def test_labels_among_the_numbers_of_a_record_are_not_taken_over(tmp_path: Path) -> None:
    (first,) = train_all([Training({"name": "a"}, square, 3)], tmp_path, 1, print)
    (path,) = tmp_path.glob("*.json")
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"outcome": {"name": "a"} | record["outcome"]}))
    (second,) = train_all([Training({"name": "b"}, square, 3)], tmp_path, 1, print)
    assert list(second) == list(first)
    assert second == first | {"name": "b"}


def test_every_record_has_a_provenance_of_its_own(tmp_path: Path) -> None:
    photo = tmp_path / "a.png"
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(photo)
    (found,) = train_all([Training({"x": "a b/c"}, constant, ImageConfig(data=photo))], tmp_path / "runs", 1)
    (path,) = (tmp_path / "runs").iterdir()
    assert re.fullmatch(r"a_b_c-[0-9a-f]{12}\.json", path.name)
    record = json.loads(path.read_text())
    assert record["key"].startswith(path.stem[-12:])
    assert record["configuration"]["data"] != str(photo)
    assert record["configuration"]["optimizer"]["kind"] == "muon"
    source = record["provenance"]
    assert source == found["provenance"]
    assert {"commit", "command", "machine", "versions", "started", "finished", "uncommitted_changes"} <= set(source)
    assert source["machine"]["threads"] == 1


@pytest.mark.parametrize(
    ("run", "config"),
    [
        (train_photograph, ImageConfig),
        (train_and_judge, ImageConfig),
        (train_shape, SDFConfig),
        (train_tones, SignalConfig),
    ],
)
def test_a_training_that_a_signal_cuts_short_is_no_result(
    run: Any, config: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trainers stop and save on SIGTERM; their sweep took what there was for all of it."""
    data = {ImageConfig: tmp_path / "p.png", SDFConfig: tmp_path / "b.npy", SignalConfig: tmp_path / "s.npy"}
    Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(data[ImageConfig])
    np.save(data[SDFConfig], (np.indices((8, 8, 8)) > 3).all(0))
    np.save(data[SignalConfig], np.sin(np.arange(64.0)))
    step = Trainer.step

    def step_and_be_stopped(self: Trainer) -> None:
        step(self)
        if self.record.steps == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Trainer, "step", step_and_be_stopped)
    plain = TaskAdjustmentConfig(enabled=False)
    network = NetworkConfig("relu", hidden_dim=8)
    settings = config(data=data[config], max_num_iterations=5, network=network, adjustment=plain)
    with pytest.raises(KeyboardInterrupt):
        train_all([Training({}, run, settings)], tmp_path / "records", jobs=1)
    assert not list((tmp_path / "records").glob("*.json"))


def test_killed_at_any_moment_it_goes_on_to_the_same(tmp_path: Path) -> None:
    """In another process, as a person would: killed three times, then left alone."""
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from iga_nerfstudio.benchmark.sweep import Training, train_all\n"
        "from tests.benchmark.sweep_trainings import slow_square\n"
        "all = [Training({'number': n}, slow_square, n) for n in range(12)]\n"
        "print([(one['number'], one['psnr']) for one in train_all(all, Path(sys.argv[1]), 1, lambda _: None)])\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", script, str(tmp_path)]
    done = 0
    for _ in range(3):
        process = subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True)
        end = time.monotonic() + 120
        while len(list(tmp_path.glob("[0-9]*.json"))) < done + 2 and time.monotonic() < end:
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        done = len(list(tmp_path.glob("[0-9]*.json")))
    assert 6 <= done < 12
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=240)
    assert result.stdout.strip() == str([(n, n**2) for n in range(12)])
