"""nerfstudio's trainer with checkpoints that are whole or absent."""

from __future__ import annotations

import errno
import logging
import os
import pickle
import re
import shutil
import socket
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from nerfstudio.engine.trainer import Trainer, TrainerConfig
from nerfstudio.utils import comms

from iga_nerfstudio.allocator import reuse_host_memory
from iga_nerfstudio.nerf.fair_lock import FairLock

logger = logging.getLogger("iga_nerfstudio")


@dataclass
class IGATrainerConfig(TrainerConfig):
    """nerfstudio's trainer configuration."""

    _target: type = field(default_factory=lambda: IGATrainer)
    """Target class to instantiate."""


class IGATrainer(Trainer):
    """Writes checkpoints atomically, and says what is wrong with one that cannot be read."""

    config: IGATrainerConfig

    def __init__(self, config: IGATrainerConfig, local_rank: int = 0, world_size: int = 1) -> None:
        super().__init__(config, local_rank, world_size)
        # Steps of milliseconds would keep the viewer's threads from ever getting nerfstudio's.
        self.train_lock = FairLock()  # type: ignore[assignment]

    def setup(self, test_mode: Literal["test", "val", "inference"] = "val") -> None:
        """As nerfstudio's; on a CPU, training steps then use their memory again."""
        if torch.device(self.device).type == "cpu":
            reuse_host_memory()
        if self.config.is_viewer_enabled() and self.local_rank == 0:
            viewer = self.config.viewer
            viewer.websocket_port = find_port(viewer.websocket_host, viewer.websocket_port)
        super().setup(test_mode)

    def _update_viewer_state(self, step: int) -> None:
        """As nerfstudio's, which a client that leaves at the wrong moment can bring down together with the training."""
        try:
            super()._update_viewer_state(step)
        except (KeyError, OSError) as error:
            logger.warning("A viewer left while it was being updated at step %d; training goes on. (%r)", step, error)

    def save_checkpoint(self, step: int) -> None:
        """Save to a staging folder, move into place, and only then delete older checkpoints.

        A run that dies while saving leaves the checkpoint before untouched. Of several processes the main one saves;
        the staging folder belongs to it.
        """
        if not comms.is_main_process():
            return
        final_dir = Path(self.checkpoint_dir)
        self.checkpoint_dir = final_dir.parent / ".checkpoint-being-written"
        # What a run that died here has left.
        shutil.rmtree(self.checkpoint_dir, ignore_errors=True)
        try:
            super().save_checkpoint(step)
            staged = self.checkpoint_dir / f"step-{step:09d}.ckpt"
            final_dir.mkdir(parents=True, exist_ok=True)
            os.replace(staged, final_dir / staged.name)
            self.checkpoint_dir.rmdir()
        finally:
            self.checkpoint_dir = final_dir
        if self.config.save_only_latest_checkpoint:
            for path in final_dir.glob("step-*.ckpt"):
                if path.name != staged.name:
                    path.unlink()

    def _load_checkpoint(self) -> None:
        path = self._requested_checkpoint()
        if path is not None and not path.exists():
            raise ValueError(f"There is no checkpoint {path}.{_alternatives(path)}")
        try:
            super()._load_checkpoint()
        except (
            RuntimeError,
            EOFError,
            OSError,
            KeyError,
            zipfile.BadZipFile,
            pickle.UnpicklingError,
        ) as error:
            raise ValueError(
                f"The checkpoint {path} cannot be read: it is truncated, damaged or of another model "
                f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'})."
                f"{_alternatives(path)}"
            ) from error

    def _requested_checkpoint(self) -> Path | None:
        """The file that nerfstudio is going to load, or None."""
        if self.config.load_dir is None:
            return self.config.load_checkpoint
        if self.config.load_step is not None:
            return self.config.load_dir / f"step-{self.config.load_step:09d}.ckpt"
        found = _checkpoints(self.config.load_dir)
        if not found:
            raise ValueError(
                f"--load-dir {self.config.load_dir} holds no checkpoint (step-*.ckpt). Give the folder "
                "outputs/<data>/<method>/<timestamp>/nerfstudio_models of a run."
            )
        return found[-1]


def find_port(host: str, port: int | None) -> int | None:
    """A port that the viewer can have, told where it is not the one asked for.

    Args:
        host: Address that the viewer listens on.
        port: The port asked for; None leaves the choice to nerfstudio.

    Returns:
        The port, or the next one that is free.

    Raises:
        ValueError: If there is none, or the host is not this machine's.
    """
    if port is None:
        return None
    for candidate in range(port, min(port + 1000, 1 << 16)):
        with socket.socket() as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                server.bind((host, candidate))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise ValueError(
                        f"The viewer cannot listen on {host}:{candidate}: {error.strerror}. Change "
                        "--viewer.websocket-host or --viewer.websocket-port."
                    ) from error
                continue
        if candidate != port:
            logger.warning("Port %d is in use; the viewer takes %d.", port, candidate)
        return candidate
    raise ValueError(f"The viewer found no free port from {port} on. Choose another with --viewer.websocket-port.")


def _checkpoints(folder: Path) -> list[Path]:
    """Checkpoints in a folder, oldest first."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if re.fullmatch(r"step-\d+\.ckpt", path.name))


def _alternatives(path: Path | None) -> str:
    """A hint at other checkpoints beside one, or nothing."""
    others = [other for other in _checkpoints(path.parent) if other != path] if path is not None else []
    if not others:
        return ""
    steps = ", ".join(str(int(other.stem.removeprefix("step-"))) for other in others[-5:])
    return f" Others beside it are untouched; choose one with --load-step: {steps}."
