"""The original NeRF's network."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from iga_nerfstudio.networks.encoding import FrequencyEncoding


class NeRFMLP(nn.Module):
    """Positions and directions to raw colour and density (Mildenhall et al. 2020, Fig. 7).

    A trunk of ReLU layers on the encoded position, which is fed in again half way; a density head on the trunk; a
    view branch that mixes a linear feature of the trunk with the encoded direction.

    Args:
        num_layers: Trunk layers.
        hidden_dim: Trunk width.
        skip_layer: The trunk layer, counted from 0, whose output the encoded position is joined to.
        view_dim: Width of the view branch.
        position_octaves: Octaves of the position's encoding (no factor pi, as in the original code).
        direction_octaves: Octaves of the direction's encoding.
        initial_density: Starting bias of the density head. A ReLU density that starts negative has no gradient;
            where it does so everywhere the field stays empty for good.

    Raises:
        ValueError: If the skip layer is not inside the trunk.
    """

    def __init__(
        self,
        num_layers: int = 8,
        hidden_dim: int = 256,
        skip_layer: int = 4,
        view_dim: int = 128,
        position_octaves: int = 10,
        direction_octaves: int = 4,
        initial_density: float = 0.1,
    ) -> None:
        super().__init__()
        if not 0 <= skip_layer < num_layers - 1:
            raise ValueError(f"The skip layer must lie in [0, {num_layers - 2}], got {skip_layer}.")
        self.skip_layer = skip_layer
        self.position_encoding = FrequencyEncoding(3, position_octaves)
        self.direction_encoding = FrequencyEncoding(3, direction_octaves)
        position_dim = self.position_encoding.out_dim
        widths = [position_dim] + [hidden_dim] * (num_layers - 1)
        widths[skip_layer + 1] += position_dim
        self.trunk = nn.ModuleList(nn.Linear(width, hidden_dim) for width in widths)
        self.density = nn.Linear(hidden_dim, 1)
        nn.init.constant_(self.density.bias, initial_density)
        self.feature = nn.Linear(hidden_dim, hidden_dim)
        self.view = nn.Linear(hidden_dim + self.direction_encoding.out_dim, view_dim)
        self.colour = nn.Linear(view_dim, 3)

    def forward(self, positions: Tensor, directions: Tensor) -> Tensor:
        """Evaluate the field.

        Args:
            positions: ``(..., 3)``, world units.
            directions: Unit view directions, ``(..., 3)``.

        Returns:
            Raw outputs ``(..., 4)``: colour before its sigmoid, then density before its ReLU.
        """
        hidden = self.trunk_features(positions)
        return torch.cat([self.colours(hidden, directions), self.density(hidden)], dim=-1)

    def trunk_features(self, positions: Tensor) -> Tensor:
        """What the density and the colours are made of.

        Args:
            positions: ``(..., 3)``, world units.

        Returns:
            ``(..., hidden_dim)``.
        """
        encoded = self.position_encoding(positions)
        hidden = self.trunk[0](encoded).relu()
        for i, layer in enumerate(self.trunk[1:]):
            joined = i == self.skip_layer
            hidden = (_on_both(cast(nn.Linear, layer), encoded, hidden) if joined else layer(hidden)).relu()
        return hidden

    def colours(self, features: Tensor, directions: Tensor) -> Tensor:
        """Colours before their sigmoid.

        Args:
            features: The trunk's, ``(..., hidden_dim)``.
            directions: Unit view directions, ``(..., 3)``.

        Returns:
            ``(..., 3)``.
        """
        viewed = _on_both(self.view, self.feature(features), self.direction_encoding(directions))
        return self.colour(viewed.relu())


def _on_both(layer: nn.Linear, first: Tensor, second: Tensor) -> Tensor:
    """A linear layer on the concatenation of two inputs."""
    if torch.is_grad_enabled():  # the kernel looks at the layer's input
        return layer(torch.cat([first, second], dim=-1))
    split = first.shape[-1]
    # Without making it, which takes longer than the layer itself.
    return linear(second, layer.weight[:, split:], layer.bias).add_(linear(first, layer.weight[:, :split]))
