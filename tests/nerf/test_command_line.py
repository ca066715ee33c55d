"""The real commands on a tiny scene: ns-train, ns-eval, ns-render, ns-viewer, and what they say of bad input."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
import yaml
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.nerf.forked_commands import ENVIRONMENT, ForkedCommands

COMMANDS = Path(sys.executable).parent
SMALL = {
    "--pipeline.datamanager.train-num-rays-per-batch": 64,
    "--pipeline.datamanager.eval-num-rays-per-batch": 64,
    "--pipeline.model.num-coarse-samples": 8,
    "--pipeline.model.num-importance-samples": 8,
    "--pipeline.model.hidden-dim": 16,
    "--pipeline.model.adjustment.end": 8,
    "--vis": "tensorboard",
    "--logging.steps-per-log": 2,
    "--steps-per-eval-batch": 1000,
    "--steps-per-eval-image": 1000,
    "--experiment-name": "tiny",
}


def run(name: object, *arguments: object, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMANDS / str(name), *map(str, arguments)], capture_output=True, text=True, timeout=timeout, env=ENVIRONMENT
    )


@pytest.fixture(scope="module")
def forked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkedCommands]:
    commands = ForkedCommands(tmp_path_factory.mktemp("printed"))
    yield commands
    commands.stop()


@pytest.fixture(scope="module")
def train(forked: ForkedCommands) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Trains a small network; takes what :func:`training` does."""
    return lambda *arguments: forked.run(*training(*arguments))


def training(scene: Path, output: Path, timestamp: str, *arguments: object) -> list[object]:
    """A command that trains a small network."""
    places = ("--data", scene, "--output-dir", output, "--timestamp", timestamp)
    return ["ns-train", "iga-nerf-tiny", *places, *(word for pair in SMALL.items() for word in pair), *arguments]


@pytest.fixture(scope="module")
def trained(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of 12 steps that keeps its checkpoints of steps 5, 10 and 11."""
    output = tmp_path_factory.mktemp("outputs")
    saves = ("--steps-per-save", 5, "--save-only-latest-checkpoint", False)
    result = run(*training(scene, output, "first", "--max-num-iterations", 12, *saves))
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
    # A quarter of 12 steps is adjusted.
    assert adjusted_steps(trained / "nerfstudio_models" / "step-000000011.ckpt") == 3
    assert found["Train Metrics Dict/iga/end"] == [8, 8, 0, 0, 0, 0]


def adjusted_steps(checkpoint: Path) -> int:
    return torch.load(checkpoint, weights_only=True)["pipeline"]["_model._extra_state"]["step"]


def test_evaluation_and_rendering(trained, tmp_path):
    config = trained / "config.yml"
    result = run("ns-eval", "--load-config", config, "--output-path", tmp_path / "eval.json")
    assert result.returncode == 0, result.stderr[-3000:]
    results = json.loads((tmp_path / "eval.json").read_text())["results"]
    assert 0 < results["psnr"] < 60
    assert -1 <= results["ssim"] <= 1
    # Every view by the name of its file: what one floater costs is not hidden in the mean.
    views = {name: view["psnr"] for name, view in results["views"].items()}
    assert list(views) == [f"test/r_{i}.png" for i in range(len(views))]
    assert len(set(views.values())) == len(views) > 1
    assert results["psnr"] == pytest.approx(np.mean(list(views.values())), abs=1e-3)
    assert results["psnr_median"] == pytest.approx(np.median(list(views.values())), abs=1e-3)
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


def test_resuming_goes_on_from_the_checkpoint(train, trained, scene, tmp_path):
    words = ("--max-num-iterations", 16, "--pipeline.model.adjustment.until", 0.9)
    result = train(scene, tmp_path, "second", *words, "--load-dir", trained / "nerfstudio_models")
    assert result.returncode == 0, result.stderr[-3000:]
    assert "90% of the training is adjusted" in " ".join(result.stdout.split())
    (path,) = (tmp_path / "tiny" / "iga-nerf-tiny" / "second" / "nerfstudio_models").iterdir()
    assert path.name == "step-000000015.ckpt"
    state = torch.load(path, weights_only=True)
    # Of its own, those before step 14.4.
    assert adjusted_steps(path) == 3 + 3
    assert type(next(iter(state["optimizers"]["fields"]["param_groups"]))["lr"]) is float


def test_a_truncated_checkpoint_is_named_and_earlier_ones_work(train, trained, scene, tmp_path):
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


def test_gradient_accumulation_mixed_precision_and_the_plain_network(train, scene, tmp_path):
    result = train(
        scene, tmp_path, "plain", "--max-num-iterations", 4, "--pipeline.model.adjustment.enabled", False,
        "--gradient-accumulation-steps", "fields", 2, "--mixed-precision", True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    folder = tmp_path / "tiny" / "iga-nerf-tiny" / "plain"
    assert not any("iga/" in tag for tag in scalars(folder))
    assert yaml.load((folder / "config.yml").read_text(), yaml.Loader).gradient_accumulation_steps == {"fields": 2}


def listening(process: subprocess.Popen) -> set[tuple[str, int]]:
    """Addresses and ports that a process and its children accept connections on."""
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    connections = [connection for member in family for connection in member.net_connections("inet")]
    return {tuple(c.laddr) for c in connections if c.status == psutil.CONN_LISTEN}


@contextmanager
def started(log: Path, name: object, *arguments: object) -> Iterator[subprocess.Popen]:
    """A command that goes on until it is ended."""
    with log.open("w") as file:
        process = subprocess.Popen(
            [COMMANDS / str(name), *map(str, arguments)], stdout=file, stderr=subprocess.STDOUT, env=ENVIRONMENT
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for(process: subprocess.Popen, log: Path, what: Callable[[], object], seconds: float = 150) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert process.poll() is None, f"It ended with {process.returncode}:\n{log.read_text()[-3000:]}"
        assert time.monotonic() < deadline, f"Waited in vain:\n{log.read_text()[-3000:]}"
        time.sleep(0.2)


def test_the_viewer_of_a_finished_run_listens_on_this_machine_alone(trained, tmp_path):
    log = tmp_path / "log.txt"
    # nerfstudio's default port is taken: the next one.
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", 7007))
        other.listen()
        with started(log, "ns-viewer", "--load-config", trained / "config.yml") as process:
            wait_for(process, log, lambda: listening(process))
            found = listening(process)
    assert {host for host, _ in found} == {"127.0.0.1"}
    assert min(port for _, port in found) > 7007
    assert "Port 7007 is in use; the viewer takes 70" in log.read_text()


def test_tensorboard_starts_and_shows_the_curves(trained, tmp_path):
    log = tmp_path / "log.txt"
    with started(log, "tensorboard", "--logdir", trained, "--port", "0") as process:
        wait_for(process, log, lambda: re.search(r"at (http://localhost:\d+/)", log.read_text()))
        address = re.search(r"at (http://localhost:\d+/)", log.read_text())[1]
        runs = urllib.request.urlopen(f"{address}data/plugin/scalars/tags", timeout=60).read()
        assert {host for host, _ in listening(process)} <= {"127.0.0.1", "::1"}
    assert b"iga/leading_eigenvalue" in runs


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_training_that_is_stopped_saves_and_says_how_to_go_on(forked, scene, tmp_path, number):
    log = tmp_path / "log.txt"
    viewer = ("--vis", "viewer", "--viewer.websocket-port", 17300)
    with started(log, *training(scene, tmp_path, "stopped", "--max-num-iterations", 5000, *viewer)) as process:
        wait_for(process, log, lambda: re.search(r"^4 \(", log.read_text(), re.MULTILINE))
        assert {host for host, _ in listening(process)} == {"127.0.0.1"}
        process.send_signal(number)
        assert process.wait(timeout=60) == 130
    output = log.read_text()
    assert "Training on cpu" in output
    assert "Traceback" not in output
    assert re.search(r"Train Loss +Train PSNR", output)
    steps = int(re.search(r"Stopped after (\d+) of 5000 steps; the state is saved", output)[1])
    (path,) = (tmp_path / "tiny/iga-nerf-tiny/stopped/nerfstudio_models").iterdir()
    assert path.name == f"step-{steps - 1:09d}.ckpt"
    if number == signal.SIGTERM:
        return  # what is printed and saved is the same
    # As it is printed, and two steps more.
    command = re.search(r"^  ns-train (.*)$", output, re.MULTILINE)[1].split()
    result = forked.run("ns-train", *command, "--max-num-iterations", steps + 2, "--vis", "tensorboard")
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    (path,) = (tmp_path / "tiny/iga-nerf-tiny/stopped/nerfstudio_models").iterdir()
    assert path.name == f"step-{steps + 1:09d}.ckpt"


def test_a_training_that_diverges_ends_with_a_word_and_no_checkpoint(train, scene, tmp_path):
    result = train(
        scene, tmp_path, "diverged", "--max-num-iterations", 9, "--logging.steps-per-log", 100,
        "--optimizers.fields.optimizer.lr", 1e30,
    )  # fmt: skip
    assert result.returncode != 0
    assert "Training Finished" not in result.stdout
    message = result.stderr.strip().splitlines()[-1]
    assert "is no longer finite at step 8 (learning rate" in message
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.glob("tiny/*/*/nerfstudio_models/*"))


def test_damaged_weights_are_not_evaluated(forked, trained, tmp_path):
    copied = Path(shutil.copytree(trained, tmp_path / "damaged"))
    latest = copied / "nerfstudio_models" / "step-000000011.ckpt"
    weight = torch.load(latest, weights_only=True)["pipeline"]["_model.field_fine.network.trunk.1.weight"]
    content = bytearray(latest.read_bytes())
    content[content.index(weight.numpy().tobytes()) + 1] ^= 1
    latest.write_bytes(content)
    result = forked.run("ns-eval", "--load-config", copied / "config.yml", "--output-path", tmp_path / "eval.json")
    assert result.returncode != 0
    assert "The checkpoint of step 11 is damaged" in result.stderr
    assert not (tmp_path / "eval.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--pipeline.model.adjustment.end", 64), "Lower end to 63"),
        (("--load-dir", "no/such/folder"), "holds no checkpoint"),
    ],
)
def test_wrong_settings_are_named(train, scene, tmp_path, arguments, message):
    result = train(scene, tmp_path, "wrong", "--max-num-iterations", 2, *arguments)
    assert result.returncode != 0
    assert message in " ".join((result.stdout + result.stderr).split())


def test_missing_data_is_named(train, tmp_path):
    result = train(tmp_path / "nowhere", tmp_path, "wrong", "--max-num-iterations", 2)
    assert result.returncode != 0
    assert "does not exist. Give a scene's folder with --data" in " ".join((result.stdout + result.stderr).split())
    assert not list(tmp_path.iterdir())


def test_checkpoints_that_cannot_be_loaded_are_named(forked, trained, tmp_path):
    copied = Path(shutil.copytree(trained, tmp_path / "damaged"))
    latest = copied / "nerfstudio_models" / "step-000000011.ckpt"
    latest.write_bytes(latest.read_bytes()[:20000])
    result = forked.run("ns-eval", "--load-config", copied / "config.yml", "--output-path", tmp_path / "eval.json")
    assert result.returncode != 0
    assert re.fullmatch(rf"The checkpoint {latest} cannot be loaded \(.*\): it is damaged, or.*", result.stderr.strip())


def test_settings_that_cannot_be_read_are_named(forked, tmp_path):
    (tmp_path / "edited.yml").write_text("a: [1\nb: 2")
    result = forked.run("ns-eval", "--load-config", tmp_path / "edited.yml")
    assert result.returncode != 0
    assert re.fullmatch(r"--load-config .*edited.yml cannot be read: while parsing .*", result.stderr.strip())
    for path, reason in ((tmp_path, "Is a directory"), (tmp_path / "none.yml", "No such file or directory")):
        result = forked.run("ns-eval", "--load-config", path)
        assert result.returncode != 0
        assert (
            result.stderr.strip()
            == f"--load-config {path} cannot be read: {reason}. Give the config.yml in a run's folder."
        )
