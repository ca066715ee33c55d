"""The real commands on a tiny scene: ns-train, ns-eval, ns-render, ns-viewer, and what they say of bad input."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

COMMANDS = Path(sys.executable).parent
SMALL = {
    "--pipeline.datamanager.train-num-rays-per-batch": 64,
    "--pipeline.datamanager.eval-num-rays-per-batch": 64,
    "--pipeline.model.num-coarse-samples": 8,
    "--pipeline.model.num-importance-samples": 8,
    "--pipeline.model.hidden-dim": 16,
    "--pipeline.model.adjustment.end": 8,
    "--machine.device-type": "cpu",
    "--vis": "tensorboard",
    "--logging.steps-per-log": 2,
    "--steps-per-eval-batch": 1000,
    "--steps-per-eval-image": 1000,
    "--experiment-name": "tiny",
}


def run(name: str, *arguments: object, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"COLUMNS": "200", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [COMMANDS / name, *map(str, arguments)], capture_output=True, text=True, timeout=timeout, env=environment
    )


def train(scene: Path, output: Path, timestamp: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    places = ("--data", scene, "--output-dir", output, "--timestamp", timestamp)
    settings = [word for pair in SMALL.items() for word in pair]
    return run("ns-train", "iga-nerf-tiny", *places, *settings, *arguments)


@pytest.fixture(scope="module")
def trained(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of 12 steps that keeps its checkpoints of steps 5, 10 and 11."""
    output = tmp_path_factory.mktemp("outputs")
    result = train(
        scene,
        output,
        "first",
        "--max-num-iterations",
        12,
        "--steps-per-save",
        5,
        "--save-only-latest-checkpoint",
        False,
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return output / "tiny" / "iga-nerf-tiny" / "first"


def scalars(folder: Path) -> dict[str, list[float]]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: [event.value for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_training_writes_checkpoints_and_scalars(trained):
    names = sorted(path.name for path in (trained / "nerfstudio_models").iterdir())
    assert names == ["step-000000005.ckpt", "step-000000010.ckpt", "step-000000011.ckpt"]
    assert not (trained / ".checkpoint-being-written").exists()
    found = scalars(trained)
    assert all(value > 0 for value in found["Train Metrics Dict/iga/leading_eigenvalue"])
    assert found["Train Metrics Dict/iga/steps_unadjusted"][-1] == 0
    assert 1 <= found["Train Metrics Dict/iga/effective_rank"][-1] <= 64


def test_evaluation_and_rendering(trained, tmp_path):
    config = trained / "config.yml"
    result = run("ns-eval", "--load-config", config, "--output-path", tmp_path / "eval.json")
    assert result.returncode == 0, result.stderr[-3000:]
    results = json.loads((tmp_path / "eval.json").read_text())["results"]
    assert 0 < results["psnr"] < 60
    assert -1 <= results["ssim"] <= 1
    result = run(
        "ns-render",
        "dataset",
        "--load-config",
        config,
        "--output-path",
        tmp_path,
        "--split",
        "train+test",
        "--image-format",
        "png",
        "--colormap-options.colormap",
        "gray",
        "--rendered-output-names",
        "rgb",
        "gt-rgb",
        "coarse_fine_difference",
        "error",
    )
    assert result.returncode == 0, result.stderr[-3000:]
    shown = {
        (split, name): np.asarray(Image.open(tmp_path / split / name / "r_0.png"), dtype=int)
        for split in ("train", "test")
        for name in ("rgb", "gt-rgb", "coarse_fine_difference", "error")
    }
    assert {picture.shape for picture in shown.values()} == {(24, 24, 3)}
    # The error is that of a training view; no other view has one.
    assert shown["test", "error"].max() == 0
    wrong = np.abs(shown["train", "rgb"] - shown["train", "gt-rgb"]).mean(-1)
    assert wrong.mean() > 2
    # Pictures are rounded to whole steps.
    assert np.abs(shown["train", "error"][..., 0] - wrong).max() <= 2


def test_resuming_goes_on_from_the_checkpoint(trained, scene, tmp_path):
    result = train(scene, tmp_path, "second", "--max-num-iterations", 16, "--load-dir", trained / "nerfstudio_models")
    assert result.returncode == 0, result.stderr[-3000:]
    (path,) = (tmp_path / "tiny" / "iga-nerf-tiny" / "second" / "nerfstudio_models").iterdir()
    assert path.name == "step-000000015.ckpt"
    state = torch.load(path, weights_only=True)
    assert state["pipeline"]["_model._extra_state"]["step"] == 16
    assert type(next(iter(state["optimizers"]["fields"]["param_groups"]))["lr"]) is float


def test_a_truncated_checkpoint_is_named_and_earlier_ones_work(trained, scene, tmp_path):
    models = shutil.copytree(trained / "nerfstudio_models", tmp_path / "models")
    latest = models / "step-000000011.ckpt"
    latest.write_bytes(latest.read_bytes()[:20000])
    result = train(scene, tmp_path, "broken", "--max-num-iterations", 14, "--load-dir", models)
    assert result.returncode != 0
    message = " ".join((result.stdout + result.stderr).split())
    assert "step-000000011.ckpt cannot be read: it is truncated" in message
    assert "choose one with --load-step: 5, 10" in message
    result = train(scene, tmp_path, "earlier", "--max-num-iterations", 13, "--load-dir", models, "--load-step", 10)
    assert result.returncode == 0, result.stderr[-3000:]


def test_gradient_accumulation_mixed_precision_and_the_plain_network(scene, tmp_path):
    result = train(
        scene, tmp_path, "plain", "--max-num-iterations", 4, "--pipeline.model.adjustment.enabled", False,
        "--gradient-accumulation-steps", "fields", 2, "--mixed-precision", True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    folder = tmp_path / "tiny" / "iga-nerf-tiny" / "plain"
    assert not any("iga/" in tag for tag in scalars(folder))
    assert yaml.load((folder / "config.yml").read_text(), yaml.Loader).gradient_accumulation_steps == {"fields": 2}


def test_the_viewer_starts_on_a_finished_run(trained):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [COMMANDS / "ns-viewer", "--load-config", trained / "config.yml", "--viewer.websocket-port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None:
            with socket.socket() as client:
                client.settimeout(1)
                if client.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.5)
        else:
            process.kill()
            pytest.fail(f"The viewer did not listen on port {port}:\n{process.stdout.read()[-3000:]}")
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--pipeline.model.adjustment.end", 64), "Lower end to 63"),
        (("--pipeline.model.adjustment.start", 9), "end must not be smaller than start, but start=9 and end=8"),
        (("--pipeline.model.adjustment.representative", "loudest"), "loudest"),
        (("--load-dir", "no/such/folder"), "holds no checkpoint"),
    ],
)
def test_wrong_settings_are_named(scene, tmp_path, arguments, message):
    result = train(scene, tmp_path, "wrong", "--max-num-iterations", 2, *arguments)
    assert result.returncode != 0
    assert message in " ".join((result.stdout + result.stderr).split())


def test_missing_data_is_named(tmp_path):
    result = train(tmp_path / "nowhere", tmp_path, "wrong", "--max-num-iterations", 2)
    assert result.returncode != 0
    assert "does not exist. Give a scene's folder with --data" in " ".join((result.stdout + result.stderr).split())
