"""Layers beyond torch's own."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from iga_nerfstudio.adjustment.layer_rules import Factors, register_layer_rule


class FourierReparameterisedLinear(nn.Module):
    """A linear layer whose weight is a trained combination of fixed Fourier bases (Shi et al. 2024, "FR").

    ``W = Lambda B``; the rows of B are ``alpha cos(w t + phi)`` over frequencies w = 1/L, 2/L, ..., 1 and 1, 2, ..., H
    and P phases, sampled at ``in_dim`` points over the longest period. Only Lambda and the bias are trained, and at
    inference W can be formed once: the network keeps its structure.

    Args:
        in_dim: Inputs.
        out_dim: Outputs.
        num_high: H.
        num_low: L.
        num_phases: P.
        alpha: Amplitude of the bases.
        gain: Factor on Lambda's range; 1 / omega in front of a sine of frequency omega.

    Raises:
        ValueError: If there is no basis, or a size is not positive.
    """

    bases: Tensor

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        num_high: int = 128,
        num_low: int = 128,
        num_phases: int = 32,
        alpha: float = 0.05,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        if min(in_dim, out_dim, num_phases) < 1 or min(num_high, num_low) < 0 or num_high + num_low < 1:
            raise ValueError(
                "Fourier reparameterisation needs positive sizes and at least one frequency, got "
                f"in_dim={in_dim}, out_dim={out_dim}, num_high={num_high}, num_low={num_low}, num_phases={num_phases}."
            )
        frequencies = torch.cat([torch.arange(1, num_low + 1) / max(num_low, 1), torch.arange(1.0, num_high + 1)])
        period = 2 * math.pi / frequencies[0]
        points = torch.linspace(-0.5, 0.5, in_dim) * period if in_dim > 1 else -0.5 * period.reshape(1)
        phases = 2 * math.pi * torch.arange(num_phases) / num_phases
        angles = frequencies[:, None, None] * points + phases[:, None]
        self.register_buffer("bases", alpha * angles.cos().flatten(0, 1))
        norms = self.bases.norm(dim=1)
        bound = gain * math.sqrt(6 / len(norms)) / norms
        self.combination = nn.Parameter((2 * torch.rand(out_dim, len(norms)) - 1) * bound)
        self.bias = nn.Parameter(torch.zeros(out_dim))

    @property
    def weight(self) -> Tensor:
        """The weight as a plain linear layer would hold it, ``(out_dim, in_dim)``."""
        return self.combination @ self.bases

    def forward(self, x: Tensor) -> Tensor:
        """``(..., in_dim)`` to ``(..., out_dim)``."""
        return nn.functional.linear(x, self.weight, self.bias)


@register_layer_rule(FourierReparameterisedLinear)
def fourier_rule(layer: FourierReparameterisedLinear, inputs: Tensor, cotangents: Tensor) -> list[Factors]:
    """``d f / d Lambda = cotangent (B input)^T``: the trained layer is fed the inputs' projections on the bases."""
    columns = [inputs @ layer.bases.T.to(inputs.dtype)] if layer.combination.requires_grad else []
    if layer.bias.requires_grad:
        columns.append(torch.ones_like(inputs[..., :1]))
    return [Factors(torch.cat(columns, dim=-1), cotangents)] if columns else []


class PointwiseBatchNorm(nn.BatchNorm1d):
    """Batch normalisation of features on the last axis, over all points of a batch (Cai et al. 2024, "BN")."""

    running_mean: Tensor
    running_var: Tensor

    def forward(self, input: Tensor) -> Tensor:
        """``(..., C)`` to ``(..., C)``."""
        return super().forward(input.reshape(-1, input.shape[-1])).reshape(input.shape)


@register_layer_rule(PointwiseBatchNorm)
def batch_norm_rule(layer: PointwiseBatchNorm, inputs: Tensor, cotangents: Tensor) -> list[Factors]:
    """With fixed statistics BN is a scale and a shift of each feature; in training mode the kernel is refused."""
    one = torch.ones_like(inputs[..., :1])
    normalised = (inputs - layer.running_mean) / (layer.running_var + layer.eps).sqrt()
    factors = []
    if layer.weight.requires_grad:
        factors.append(Factors(one, cotangents * normalised))
    if layer.bias.requires_grad:
        factors.append(Factors(one, cotangents))
    return factors
