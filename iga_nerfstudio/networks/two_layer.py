"""The paper's two-layer network with a fixed last layer, whose NTK has a closed form (Sec. 4, experiment 1)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import relu


class TwoLayerReLU(nn.Module):
    """``f(x) = 1/sqrt(m) sum_r a_r relu((w_r . x + b_r) / sqrt(2))`` with a_r = +-1 fixed.

    Weights start at a standard normal distribution and biases at zero, so that on the unit circle the NTK is that of
    :func:`two_layer_ntk` in the limit of infinite width.

    Args:
        width: Neurons, m.
        in_dim: Coordinates, d.

    Raises:
        ValueError: If there is no neuron.
    """

    signs: Tensor

    def __init__(self, width: int, in_dim: int = 2) -> None:
        super().__init__()
        if width < 1:
            raise ValueError(f"A network needs one neuron at least, got width {width}.")
        self.hidden = nn.Linear(in_dim, width)
        nn.init.normal_(self.hidden.weight)
        nn.init.zeros_(self.hidden.bias)
        self.register_buffer("signs", 2.0 * torch.randint(2, (width,)) - 1)

    def forward(self, x: Tensor) -> Tensor:
        """Values at points: ``(N, d)`` to ``(N, 1)``."""
        hidden = relu(self.hidden(x) / math.sqrt(2))
        return (hidden @ self.signs / math.sqrt(len(self.signs)))[:, None]


def two_layer_ntk(x: Tensor) -> Tensor:
    """The NTK of an infinitely wide :class:`TwoLayerReLU` at unit vectors.

    ``K_ij = (x_i . x_j + 1) (pi - arccos(x_i . x_j)) / (4 pi)`` (paper Sec. 4).

    Args:
        x: Points on the unit sphere, ``(N, d)``.

    Returns:
        ``(N, N)``, of x's dtype.

    Raises:
        ValueError: If a point is not on the unit sphere.
    """
    lengths = torch.linalg.vector_norm(x, dim=-1)
    if not torch.allclose(lengths, torch.ones_like(lengths), atol=1e-4):
        raise ValueError(
            f"The closed form holds on the unit sphere; norms go from {lengths.min():g} to {lengths.max():g}."
        )
    products = (x @ x.T).clamp(-1, 1)
    return (products + 1) * (math.pi - torch.arccos(products)) / (4 * math.pi)
