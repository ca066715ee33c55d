"""Checkpoints are whole or absent."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from iga_nerfstudio.nerf import trainer as trainer_module
from iga_nerfstudio.nerf.trainer import IGATrainer


@pytest.fixture
def trainer(tmp_path: Path) -> IGATrainer:
    trainer = IGATrainer.__new__(IGATrainer)
    trainer.base_dir, trainer.checkpoint_dir = tmp_path, tmp_path / "nerfstudio_models"
    trainer.pipeline = torch.nn.Linear(2, 2)
    trainer.optimizers = SimpleNamespace(optimizers={}, schedulers={})
    trainer.grad_scaler = SimpleNamespace(state_dict=dict)
    trainer.config = SimpleNamespace(
        save_only_latest_checkpoint=True, load_dir=None, load_step=None, load_checkpoint=None
    )
    return trainer


def names(trainer: IGATrainer) -> list[str]:
    return sorted(path.name for path in trainer.checkpoint_dir.iterdir())


def test_only_the_latest_is_kept(trainer):
    for step in (3, 7):
        trainer.save_checkpoint(step)
    assert names(trainer) == ["step-000000007.ckpt"]
    assert torch.load(trainer.checkpoint_dir / "step-000000007.ckpt", weights_only=True)["step"] == 7
    trainer.config.save_only_latest_checkpoint = False
    trainer.save_checkpoint(9)
    assert names(trainer) == ["step-000000007.ckpt", "step-000000009.ckpt"]


def test_a_run_that_dies_while_saving_keeps_the_checkpoint_before(trainer, monkeypatch):
    trainer.save_checkpoint(3)
    save = torch.save

    def die(state, path):
        Path(path).write_bytes(b"half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", die)
    with pytest.raises(KeyboardInterrupt):
        trainer.save_checkpoint(7)
    assert names(trainer) == ["step-000000003.ckpt"]
    monkeypatch.setattr(torch, "save", save)
    trainer.save_checkpoint(8)
    assert names(trainer) == ["step-000000008.ckpt"]
    assert not (trainer.base_dir / ".checkpoint-being-written").exists()


@pytest.mark.parametrize("step", [None, 12])
def test_what_is_not_there_is_named(trainer, step):
    trainer.config.load_dir, trainer.config.load_step = trainer.base_dir, step
    with pytest.raises(ValueError, match=r"holds no checkpoint|There is no checkpoint .*step-000000012.ckpt"):
        trainer._load_checkpoint()


def test_other_processes_leave_saving_and_its_staging_folder_to_the_main_one(trainer, monkeypatch):
    monkeypatch.setattr(trainer_module.comms, "is_main_process", lambda: False)
    staged = trainer.base_dir / ".checkpoint-being-written" / "step-000000003.ckpt"
    staged.parent.mkdir()
    staged.write_bytes(b"half of it")
    trainer.save_checkpoint(3)
    assert staged.read_bytes() == b"half of it"
    assert not trainer.checkpoint_dir.exists()
