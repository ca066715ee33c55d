"""Checkpoints to resume from, and models to use."""

from __future__ import annotations

import logging
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from iga_nerfstudio.networks import CoordinateMLP, FourierReparameterisation, NetworkConfig, build_network
from iga_nerfstudio.tensor_files import load_tensors, save_tensors

logger = logging.getLogger("iga_nerfstudio")


class Checkpoints:
    """The checkpoints of one run, ``step-000001000.ckpt`` and so on.

    Args:
        folder: Where they are.
        only_latest: Delete older ones once a newer one is whole.
    """

    def __init__(self, folder: Path, only_latest: bool = True) -> None:
        self.folder, self._only_latest = folder, only_latest

    def paths(self) -> list[Path]:
        """Complete checkpoints, oldest first."""
        if not self.folder.is_dir():
            return []
        return sorted(path for path in self.folder.iterdir() if re.fullmatch(r"step-\d{9}\.ckpt", path.name))

    def save(self, step: int, state: dict[str, Any]) -> Path:
        """Write the state after a number of steps.

        Raises:
            OSError: If it cannot be written; earlier checkpoints stay.
        """
        path = self.folder / f"step-{step:09d}.ckpt"
        save_tensors(path, state)
        if self._only_latest:
            for older in self.paths():
                if older != path:
                    older.unlink()
        # What a process that was killed while writing has left.
        for leftover in self.folder.glob(".step-*.ckpt"):
            leftover.unlink()
        return path

    def load_latest(self) -> dict[str, Any]:
        """Read the newest checkpoint that is whole; damaged newer ones are logged.

        Raises:
            ValueError: If there is none.
        """
        for path in reversed(self.paths()):
            try:
                return load_tensors(path)
            except ValueError as error:
                logger.warning("%s Trying the checkpoint before it.", error)
        raise ValueError(
            f"There is no checkpoint to continue from in {self.folder}. Give --load-dir the folder of a run, "
            "outputs/<data>/<task>/<timestamp>."
        )


@dataclass(frozen=True)
class SavedModel:
    """A network on disk and what it stands for.

    Attributes:
        network: In evaluation mode, on the CPU.
        config: Its settings.
        description: What the task adds: the size of the image, the place of the voxels, ...
    """

    network: CoordinateMLP
    config: NetworkConfig
    description: dict[str, Any]


def save_model(
    path: Path,
    weights: dict[str, torch.Tensor],
    config: NetworkConfig,
    sizes: tuple[int, int],
    description: dict[str, Any],
) -> None:
    """Write a model file.

    Args:
        path: The file.
        weights: The network's state dict.
        config: The network's settings.
        sizes: ``(d, C)``: coordinates per point and values per point.
        description: What else is needed to use it; plain values.

    Raises:
        OSError: If the file cannot be written.
    """
    save_tensors(
        path,
        {"weights": weights, "network": asdict(config), "sizes": list(sizes), "description": description},
    )


def load_model(path: Path) -> SavedModel:
    """Read a model file.

    Args:
        path: ``models/last.pt`` or ``models/best.pt`` of a run.

    Returns:
        The network and its description.

    Raises:
        ValueError: If the file is missing, damaged or no model.
    """
    content = load_tensors(path)
    try:
        settings = dict(content["network"])
        settings["fourier_reparameterisation"] = FourierReparameterisation(**settings["fourier_reparameterisation"])
        config = NetworkConfig(**settings)
        network = build_network(config, *content["sizes"])
        network.load_state_dict(content["weights"])
        return SavedModel(network.eval(), config, content["description"])
    except (KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f"{path} holds no model of this version ({type(error).__name__}: {error}).") from error
