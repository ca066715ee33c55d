"""A training that is killed and resumed ends as one that was not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from iga_nerfstudio.tensor_files import load_tensors

STEPS = 20
COMMON = [
    "--experiment-name", "resumed", "--vis", "tensorboard", "--machine.device-type", "cpu", "--steps-per-save", "3",
    "--pipeline.datamanager.train-num-rays-per-batch", "48", "--pipeline.datamanager.eval-num-rays-per-batch", "48",
    # What draws random numbers beside the training steps, and images that change.
    "--steps-per-eval-batch", "2", "--steps-per-eval-image", "7",
    "--pipeline.datamanager.train-num-images-to-sample-from", "5",
    "--pipeline.datamanager.train-num-times-to-repeat-images", "4",
    "--pipeline.model.adjustment.end", "6", "--pipeline.model.adjustment.representative", "random",
    "--pipeline.model.adjustment.until", "0.6",
]  # fmt: skip
SMALL = {
    "iga-nerf-tiny": [
        "--pipeline.model.num-coarse-samples", "8", "--pipeline.model.num-importance-samples", "8",
        "--pipeline.model.hidden-dim", "16",
    ],
    "iga-nerfacto": [
        "--pipeline.model.num-proposal-samples-per-ray", "12", "8", "--pipeline.model.num-nerf-samples-per-ray", "6",
        "--pipeline.model.log2-hashmap-size", "8", "--pipeline.model.num-levels", "4",
        "--pipeline.model.proposal-warmup", "4", "--pipeline.model.proposal-update-every", "3",
    ],
}  # fmt: skip


def differences(first: Any, second: Any, name: str = "") -> list[str]:
    """Where two checkpoints differ."""
    if isinstance(first, dict):
        if first.keys() != second.keys():
            return [f"{name}: {first.keys() ^ second.keys()}"]
        return [found for key in first for found in differences(first[key], second[key], f"{name}/{key}")]
    if isinstance(first, (list, tuple)):
        if len(first) != len(second):
            return [f"{name}: {len(first)} and {len(second)} entries"]
        pairs = enumerate(zip(first, second, strict=True))
        return [found for i, pair in pairs for found in differences(*pair, f"{name}/{i}")]
    same = torch.equal(first, second) if isinstance(first, torch.Tensor) else first == second
    return [] if same else [name]


@pytest.mark.parametrize("method", ["iga-nerf-tiny", "iga-nerfacto"])
def test_killed_and_resumed_ends_bit_for_bit_as_uninterrupted(method: str, scene: Path, tmp_path: Path) -> None:
    script = Path(__file__).with_name("killed_trainings.py")
    words = [method, str(STEPS), str(tmp_path), "--data", str(scene), *COMMON, *SMALL[method], "--", "iga-blender"]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, script, *words], capture_output=True, text=True, timeout=280, env=environment
    )
    logs = "\n".join(path.read_text()[-1500:] for path in sorted(tmp_path.glob("*.log")))
    assert result.returncode == 0, result.stderr[-3000:] + logs
    assert result.stdout.splitlines()[-1] == "[-9, -9, -9, -9, 0]", logs
    runs = tmp_path / "resumed" / method
    for name in ("whole", "parts"):
        assert [path.name for path in (runs / name / "nerfstudio_models").iterdir()] == ["step-000000019.ckpt"]
        assert not (runs / name / ".checkpoint-being-written").exists()
    whole, parts = (load_tensors(runs / name / "nerfstudio_models/step-000000019.ckpt") for name in ("whole", "parts"))
    assert set(whole) >= {"pipeline", "optimizers", "schedulers", "random"}
    assert differences(whole, parts) == []
