"""Checkpoints and models: whole or absent, whatever happens while they are written."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from iga_nerfstudio.files import write_text, write_whole
from iga_nerfstudio.networks import FourierReparameterisation, NetworkConfig, build_network
from iga_nerfstudio.networks.builder import NetworkKind
from iga_nerfstudio.tasks.checkpoints import Checkpoints, load_model, save_model
from iga_nerfstudio.tensor_files import load_tensors, save_tensors


def test_a_state_comes_back_and_older_ones_go(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "new" / "folder")
    checkpoints.save(1, {"x": torch.ones(2)})
    checkpoints.save(20, {"x": torch.zeros(3)})
    assert [path.name for path in checkpoints.paths()] == ["step-000000020.ckpt"]
    assert torch.equal(checkpoints.load_latest()["x"], torch.zeros(3))


def test_all_are_kept_on_request(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, only_latest=False)
    for step in (1, 2):
        checkpoints.save(step, {"step": step})
    assert len(checkpoints.paths()) == 2
    assert checkpoints.load_latest() == {"step": 2}


def test_a_damaged_checkpoint_is_logged_and_the_one_before_it_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = Checkpoints(tmp_path, only_latest=False)
    checkpoints.save(1, {"step": 1})
    newest = checkpoints.save(2, {"step": 2, "x": torch.zeros(1000)})
    newest.write_bytes(newest.read_bytes()[:700])
    assert checkpoints.load_latest() == {"step": 1}
    assert "step-000000002.ckpt cannot be read" in caplog.text


def test_a_folder_without_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no checkpoint to continue from"):
        Checkpoints(tmp_path / "nothing").load_latest()


def test_a_failing_writer_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "old")

    def fail(staged: Path) -> None:
        staged.write_text("half")
        raise OSError("disk on fire")

    with pytest.raises(OSError, match="fire"):
        write_whole(path, fail)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.txt"]


def limited_to_100_kb(function: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a line of Python in a process whose files may not grow beyond 100 kB, as on a disk that is nearly full."""
    code = (
        "import sys, torch; from pathlib import Path; from iga_nerfstudio.tasks.checkpoints import *; "
        f"folder = Path(sys.argv[1]); {function}"
    )

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    return subprocess.run(
        [sys.executable, "-c", code, str(folder)], preexec_fn=limit, capture_output=True, text=True, check=False
    )


def test_a_full_disk_is_an_oserror_and_the_checkpoint_before_stays(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {"step": 1})
    result = limited_to_100_kb("Checkpoints(folder).save(2, {'x': torch.zeros(100_000)})", tmp_path)
    assert "OSError" in result.stderr.splitlines()[-1], result.stderr
    assert checkpoints.load_latest() == {"step": 1}
    assert os.listdir(tmp_path) == ["step-000000001.ckpt"]


WRITER = """
import sys, torch
from pathlib import Path
from iga_nerfstudio.tasks.checkpoints import Checkpoints
checkpoints = Checkpoints(Path(sys.argv[1]))
for step in range(1, 10**6):
    checkpoints.save(step, {"step": step, "x": torch.full((500_000,), step)})
    if step == 1:
        print("started", flush=True)
"""


@pytest.mark.parametrize("delay", [0.05, 0.11, 0.23])
def test_kill_9_while_saving_leaves_a_checkpoint_that_loads(tmp_path: Path, delay: float) -> None:
    with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        time.sleep(delay)
        process.kill()
    state = Checkpoints(tmp_path).load_latest()
    assert state["step"] >= 1
    assert (state["x"] == state["step"]).all()
    # The next save clears what the killed one left.
    Checkpoints(tmp_path).save(10**6, {"step": 0})
    assert os.listdir(tmp_path) == ["step-001000000.ckpt"]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "cannot be read"), (b"no checkpoint at all", "cannot be read"), (None, "There is no file")],
)
def test_files_that_are_no_checkpoints(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "x.ckpt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_tensors(path)


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "evil.pt"
    torch.save({"x": subprocess.Popen}, path)
    with pytest.raises(ValueError, match="cannot be read"):
        load_tensors(path)


@pytest.mark.parametrize("kind", ["pe", "fourier", "siren", "complex_wire", "wire_finer"])
def test_a_model_comes_back_with_its_outputs(tmp_path: Path, kind: NetworkKind) -> None:
    config = NetworkConfig(kind, hidden_dim=16, hidden_layers=2)
    network = build_network(config, 2, 3)
    save_model(tmp_path / "m.pt", network.state_dict(), config, (2, 3), {"image_size": [4, 5]})
    saved = load_model(tmp_path / "m.pt")
    x = torch.rand(7, 2)
    assert torch.equal(saved.network(x), network(x))
    assert saved.config == config
    assert saved.description == {"image_size": [4, 5]}
    assert not saved.network.training


def test_a_reparameterised_model_comes_back(tmp_path: Path) -> None:
    config = NetworkConfig("relu", 16, 2, fourier_reparameterisation=FourierReparameterisation(True, 4, 4, 2))
    network = build_network(config, 2, 1)
    save_model(tmp_path / "m.pt", network.state_dict(), config, (2, 1), {})
    assert torch.equal(load_model(tmp_path / "m.pt").network(torch.ones(1, 2)), network(torch.ones(1, 2)))


def test_another_file_is_no_model(tmp_path: Path) -> None:
    save_tensors(tmp_path / "m.pt", {"something": 1})
    with pytest.raises(ValueError, match="holds no model of this version"):
        load_model(tmp_path / "m.pt")
