"""nerfstudio's hash encoding in the kernel: its table's part, from the rows that points share.

Importing this module registers the rule.
"""

from __future__ import annotations

import itertools

import torch
from nerfstudio.field_components.encodings import HashEncoding
from torch import Tensor

from iga_nerfstudio.adjustment import LookupFactors, UnsupportedNetworkError, register_layer_rule


@register_layer_rule(HashEncoding)
def hash_encoding_rule(layer: HashEncoding, inputs: Tensor, cotangents: Tensor) -> list[LookupFactors]:
    """At each level a point's features are a weighted sum of 8 rows of the table (Mueller et al. 2022, Sec. 3).

    Their gradients are the level's cotangents, ``(n, s, features)``, times those weights.

    Raises:
        UnsupportedNetworkError: If the table is tinycudann's, whose arrangement is its own.
    """
    if layer.tcnn_encoding is not None:
        raise UnsupportedNetworkError("The kernel reaches the hash table of torch's encoding only, not tinycudann's.")
    rows, weights = corners(layer, inputs)
    by_level = cotangents.unflatten(-1, (layer.num_levels, layer.features_per_level))
    return [
        LookupFactors(rows[..., level, :], weights[..., level, :], by_level[..., level, :])
        for level in range(layer.num_levels)
    ]


def corners(layer: HashEncoding, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of the table around each position, and their weights in the interpolation.

    Args:
        layer: The encoding, torch's.
        positions: ``(..., 3)`` in [0, 1].

    Returns:
        Rows, int64, and weights, ``(..., L, 8)`` each, for L levels. Different corners may share a row.
    """
    # In the precision that the encoding was given positions in: its cells must be the same.
    scaled = positions[..., None, :] * layer.scalings.view(-1, 1).to(positions.device)
    lower, upper = scaled.floor(), scaled.ceil()
    offset = scaled - lower
    rows, weights = [], []
    for sides in itertools.product((False, True), repeat=3):
        is_upper = torch.tensor(sides, device=positions.device)
        rows.append(layer.hash_fn(torch.where(is_upper, upper, lower).to(torch.int32)))
        weights.append(torch.where(is_upper, offset, 1 - offset).prod(-1))
    return torch.stack(rows, dim=-1), torch.stack(weights, dim=-1)
