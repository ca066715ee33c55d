"""The real trainer and pipeline in two processes on the CPU, started by torchrun."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from iga_nerfstudio.nerf.method_configs import iga_nerf, iga_nerf_tiny
from tests.nerf.distributed_worker import STEPS

ROOT = Path(__file__).parents[2]
# Seconds for everything the two processes do.
TIMEOUT = 240


@pytest.fixture(scope="module")
def folder(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the two processes' trainings have left everything."""
    folder = tmp_path_factory.mktemp("distributed")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*launcher, "-m", "tests.nerf.distributed_worker", scene, folder]
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONWARNINGS": "ignore",
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
    }
    result = subprocess.run(
        list(map(str, command)), cwd=ROOT, env=environment, capture_output=True, text=True, timeout=TIMEOUT
    )
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-4000:]
    return folder


@pytest.fixture(scope="module")
def results(folder: Path) -> list[dict[str, Any]]:
    """What each process found, by training."""
    return [torch.load(folder / f"results-{rank}.pt", weights_only=True) for rank in range(2)]


def difference(a: dict[str, Any], b: dict[str, Any]) -> float:
    """Relative difference of two trainings' parameters."""
    one, other = (torch.cat([p.flatten().double() for p in found["parameters"].values()]) for found in (a, b))
    return ((one - other).norm() / other.norm()).item()


@pytest.mark.parametrize("training", ["drawn", "gathered", "many", "separate", "resumed"])
def test_parameters_are_equal_on_both_processes(results, training):
    first, second = (result[training] for result in results)
    assert first["wrapped"]
    assert second["wrapped"]
    assert difference(first, second) == 0.0
    assert first["unadjusted"] == second["unadjusted"] == 0


@pytest.mark.parametrize("training", ["drawn", "resumed"])
def test_each_process_draws_rays_of_its_own(results, training):
    first, second = (result[training]["rays"] for result in results)
    assert first.shape == second.shape
    assert not (first == second).all(-1).any()


@pytest.mark.parametrize(("together", "alone"), [("gathered", "alone"), ("many", "many alone")])
def test_gathered_it_is_the_training_of_one_process_with_all_rays(results, together, alone):
    whole = results[0][alone]
    assert not whole["wrapped"]
    assert torch.equal(torch.cat([result[together]["rays"] for result in results], 1), whole["rays"])
    assert difference(results[0][together], whole) < 1e-12
    assert difference(results[0]["separate"], whole) > 1e-4


def test_process_0_saves_and_logs(folder):
    run = folder / "drawn" / "iga-nerf-tiny" / "now"
    assert [path.name for path in (run / "nerfstudio_models").iterdir()] == ["step-000000002.ckpt"]
    assert not (run / ".checkpoint-being-written").exists()
    events = EventAccumulator(str(run))
    events.Reload()
    tags = events.Tags()["scalars"]
    assert {"Train Metrics Dict/iga/leading_eigenvalue", "Eval Loss", "Eval Images Metrics/psnr"} <= set(tags)
    assert len(list(run.glob("events.out.tfevents.*"))) == 1


def test_checkpoints_are_read_by_several_processes_and_by_one(results):
    for result in results:
        assert result["resumed"]["steps"] == 2 * STEPS
    assert results[0]["loaded"]["start"] == STEPS
    assert difference(results[0]["loaded"], results[0]["drawn"]) == 0.0


@pytest.mark.parametrize("method", [iga_nerf, iga_nerf_tiny])
def test_nerfstudio_can_send_the_configuration_to_its_processes(method):
    assert pickle.loads(pickle.dumps(method.config)) == method.config
