"""Keeps the spectral arithmetic in full precision whatever the training step around it does."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

# The switches are the process's: of threads that change them in turns, one would put back what another had set.
_SWITCHES = threading.RLock()


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Switch autocast and TF32 off for a block.

    Gram matrices square the condition number of what they are made of: with the 10 bits of TF32 or the 8 of
    bfloat16 the eigenvalues that S_e is built from would be noise.

    Args:
        device: Where the block computes; autocast is switched off for that kind of device.
    """
    with _SWITCHES, _without_tf32(), torch.autocast(device_type=device.type, enabled=False):
        yield


@contextmanager
def _without_tf32() -> Iterator[None]:
    """By the switch that the user has chosen: torch >= 2.9 has two of them, and raises where they are mixed."""
    try:
        before = torch.get_float32_matmul_precision()
    except RuntimeError:
        backends = [getattr(torch.backends, name).matmul for name in ("cuda", "mkldnn")]
        chosen = [backend.fp32_precision for backend in backends]
        try:
            for backend in backends:
                backend.fp32_precision = "ieee"
            yield
        finally:
            for backend, precision in zip(backends, chosen, strict=True):
                backend.fp32_precision = precision
    else:
        torch.set_float32_matmul_precision("highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)
