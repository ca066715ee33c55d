"""Keeps the spectral arithmetic in full precision whatever the training step around it does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Switch autocast and TF32 off for a block.

    Gram matrices square the condition number of what they are made of: with the 10 bits of TF32 or the 8 of
    bfloat16 the eigenvalues that S_e is built from would be noise.

    Args:
        device: Where the block computes; autocast is switched off for that kind of device.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device_type=device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
