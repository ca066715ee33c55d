"""Which device to compute on."""

from __future__ import annotations

from typing import Literal

import torch


def default_device() -> Literal["cpu", "cuda"]:
    """``"cuda"`` where torch finds a GPU, ``"cpu"`` elsewhere."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def require_device(device_type: str) -> torch.device:
    """The device of a name.

    Args:
        device_type: ``"cpu"``, ``"cuda"`` or ``"mps"``.

    Returns:
        The device.

    Raises:
        ValueError: If torch does not find it.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available[device_type]:
        raise ValueError(
            f"--machine.device-type is {device_type}, but torch finds no such device here. Make it {default_device()}, "
            "or install a torch and a driver that know the other."
        )
    return torch.device(device_type)
