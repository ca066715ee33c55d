"""The original NeRF's field, for nerfstudio."""

from __future__ import annotations

import torch
from nerfstudio.cameras.rays import RaySamples
from nerfstudio.field_components.field_heads import FieldHeadNames
from nerfstudio.fields.base_field import Field
from torch import Tensor

from iga_nerfstudio.networks import NeRFMLP


class IGANerfField(Field):
    """A NeRF MLP with sigmoid colours and ReLU densities.

    Args:
        network: Positions and directions to raw outputs; the kernel is computed on it.
    """

    def __init__(self, network: NeRFMLP) -> None:
        super().__init__()
        self.network = network

    def raw_outputs(self, ray_samples: RaySamples) -> Tensor:
        """The network's outputs before their activations, ``(n, p, 4)``, float32 or better."""
        positions, directions = ray_samples.frustums.get_positions(), ray_samples.frustums.directions
        if torch.is_grad_enabled():
            raw = self.network(positions, directions)
        else:
            raw = self._seen_outputs(ray_samples, positions, directions)
        # Under mixed precision the layers run in half precision; rendering does not.
        return raw.to(torch.promote_types(raw.dtype, torch.float32))

    def _seen_outputs(self, ray_samples: RaySamples, positions: Tensor, directions: Tensor) -> Tensor:
        """The same where only rendering is asked for: no colours, but zeros, where the weight is exactly zero."""
        features = self.network.trunk_features(positions)
        density = self.network.density(features)
        seen = ray_samples.get_weights(density.relu().float())[..., 0] > 0
        seen_colours = self.network.colours(features[seen], directions[seen])
        colours = seen_colours.new_zeros(*density.shape[:-1], 3)
        colours[seen] = seen_colours
        return torch.cat([colours, density], dim=-1)

    @staticmethod
    def activate(raw: Tensor) -> tuple[Tensor, Tensor]:
        """Raw outputs ``(n, p, 4)`` to colours ``(n, p, 3)`` in [0, 1] and densities ``(n, p, 1)``, 1 / world unit."""
        return raw[..., :3].sigmoid(), raw[..., 3:].relu()

    def get_density(self, ray_samples: RaySamples) -> tuple[Tensor, Tensor]:
        """Densities ``(n, p, 1)``, and colours ``(n, p, 3)`` as the embedding."""
        colours, densities = self.activate(self.raw_outputs(ray_samples))
        return densities, colours

    def get_outputs(
        self, ray_samples: RaySamples, density_embedding: Tensor | None = None
    ) -> dict[FieldHeadNames, Tensor]:
        """Colours, from the embedding that :meth:`get_density` gave or computed anew."""
        colours = self.get_density(ray_samples)[1] if density_embedding is None else density_embedding
        return {FieldHeadNames.RGB: colours}
