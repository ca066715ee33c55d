"""The scalar of the network's output that the kernel differentiates.

A full eNTK of a network with C outputs is (nC, nC). The sum over outputs, scaled to unit norm, gives one (n, n) kernel
that approaches it in spectrum ("sum of logits", Mohamadi et al. 2023; paper Sec. 3.4).
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

Readout = Callable[[Tensor], Tensor]
"""Outputs ``(..., C)`` to scalars ``(...)``."""


def sum_of_logits(outputs: Tensor) -> Tensor:
    """Sum of the raw outputs over sqrt(C): ``(..., C)`` to ``(...)``."""
    return outputs.sum(-1) / outputs.shape[-1] ** 0.5


def sum_of_sigmoids(outputs: Tensor) -> Tensor:
    """Sum of the outputs' sigmoids over sqrt(C): ``(..., C)`` to ``(...)``.

    What the authors' NeRF code differentiates, density included: half the sum of four sigmoids.
    """
    return outputs.sigmoid().sum(-1) / outputs.shape[-1] ** 0.5
