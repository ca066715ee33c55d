"""The place in the computation where a loss gradient goes through the transform."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.profiler import record_function

from iga_nerfstudio.adjustment.processes import ProcessRows
from iga_nerfstudio.adjustment.transform import SpectralTransform

# Names of the parts of a step's adjustment in torch's profiler.
PARTS = {name: f"iga::{name}" for name in ("representatives", "kernel", "eigenpairs", "apply")}


class Rebalance(torch.autograd.Function):
    """Identity forward; multiplies the gradient by S_e backward (paper Eq. 4)."""

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, transform: SpectralTransform, rows: ProcessRows, on_not_finite: Callable[[], None]
    ) -> Tensor:
        ctx.transform, ctx.rows, ctx.on_not_finite = transform, rows, on_not_finite
        # A copy and no view, which could not be changed in place.
        return values.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (own,) = gradients
        if torch.is_grad_enabled():
            raise RuntimeError(
                "A derivative to be differentiated once more (create_graph=True) was asked for through the adjuster, "
                "where it would be that of the transformed loss. Take it of the network's own prediction, before the "
                "adjuster."
            )
        residual = ctx.rows.gather(own)
        # One bad ray would spread to all of them, on every process, through S_e, so none is touched.
        if not torch.isfinite(residual).all():
            ctx.on_not_finite()
            return own, None, None, None
        with record_function(PARTS["apply"]):
            return ctx.rows.own(ctx.transform.apply(residual)), None, None, None
