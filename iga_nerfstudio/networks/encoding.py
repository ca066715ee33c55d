"""Fixed encodings of coordinates."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class FrequencyEncoding(nn.Module):
    """Positional encoding: the input, then sines and cosines of it at octaves.

    ``x -> (x, sin(s x), cos(s x), sin(2 s x), cos(2 s x), ..., cos(2^(L-1) s x))`` with L octaves and scale s
    (Mildenhall et al. 2020, Eq. 4). The original NeRF code uses ``scale=1``, its paper and most image work pi.

    Args:
        in_dim: Coordinates per input, d.
        num_octaves: L; 0 leaves the input as it is.
        scale: Angular frequency of the first octave, radians per unit of the coordinate.

    Raises:
        ValueError: If in_dim is not positive or num_octaves is negative.
    """

    frequencies: Tensor

    def __init__(self, in_dim: int, num_octaves: int, scale: float = 1.0) -> None:
        super().__init__()
        if in_dim < 1 or num_octaves < 0:
            raise ValueError(f"Need in_dim >= 1 and num_octaves >= 0, got {in_dim} and {num_octaves}.")
        self.out_dim = in_dim * (1 + 2 * num_octaves)
        self.register_buffer("frequencies", scale * 2.0 ** torch.arange(num_octaves), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Encode ``(..., d)`` to ``(..., d (1 + 2 L))``."""
        angles = x[..., None, :] * self.frequencies[:, None]
        waves = torch.stack([angles.sin(), angles.cos()], dim=-2)
        return torch.cat([x, waves.flatten(-3)], dim=-1)


class FourierFeatures(nn.Module):
    """Random Fourier features ``(cos 2 pi B x, sin 2 pi B x)`` with fixed Gaussian frequencies B (Tancik et al. 2020).

    Args:
        in_dim: Coordinates per input, d.
        num_features: Frequencies; the encoding has twice as many outputs.
        scale: Standard deviation of the frequencies, cycles per unit of the coordinate.

    Raises:
        ValueError: If a size is not positive.
    """

    frequencies: Tensor

    def __init__(self, in_dim: int, num_features: int, scale: float = 10.0) -> None:
        super().__init__()
        if in_dim < 1 or num_features < 1:
            raise ValueError(f"Need in_dim >= 1 and num_features >= 1, got {in_dim} and {num_features}.")
        self.out_dim = 2 * num_features
        # Drawn, so unlike the octaves it belongs to the network's state.
        self.register_buffer("frequencies", scale * torch.randn(num_features, in_dim))

    def forward(self, x: Tensor) -> Tensor:
        """Encode ``(..., d)`` to ``(..., 2 num_features)``."""
        angles = 2 * torch.pi * x @ self.frequencies.T
        return torch.cat([angles.cos(), angles.sin()], dim=-1)
