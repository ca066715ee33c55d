"""Per-layer rules: a layer's per-sample gradient as a sum of outer products, without forming it.

For a layer whose per-sample gradient is ``sum_s right_s left_s^T`` the layer's part of the kernel needs only Gram
matrices of the two factors. A rule says what the factors are. Layers without a rule are refused: a kernel that misses
a parameter would be wrong without a sign of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Factors:
    """Outer-product form of a layer's per-sample gradients.

    Attributes:
        left: ``(n, s, a)``; s runs over the points that a sample passed through the layer.
        right: ``(n, s, b)``. The gradient of sample i is ``sum_s right[i, s] left[i, s]^T``, up to arrangement.
    """

    left: Tensor
    right: Tensor


@dataclass(frozen=True)
class LookupFactors:
    """The same where the left factor is sparse: a weighted sum of a few rows of a table, as in a hash grid.

    Attributes:
        rows: Rows of the table that each point looked up, int64 ``(n, s, k)``; some may be the same.
        weights: Their weights, ``(n, s, k)``.
        right: ``(n, s, b)``. The gradient of sample i is ``sum_s sum_k weights[i, s, k] e_r right[i, s]^T`` with
            r = rows[i, s, k].
    """

    rows: Tensor
    weights: Tensor
    right: Tensor


LayerRule = Callable[[Any, Tensor, Tensor], Sequence[Factors | LookupFactors]]
"""The first argument is a layer of the type that the rule is registered for."""

_rules: dict[type[nn.Module], LayerRule] = {}


def register_layer_rule(layer_type: type[nn.Module]) -> Callable[[LayerRule], LayerRule]:
    """Decorator: make a rule known for a layer type (exactly that type; a subclass may compute something else).

    The rule is called as ``rule(layer, inputs, cotangents)`` with the layer's inputs ``(n, s, d_in)`` and the
    gradient of the summed readout with respect to its outputs ``(n, s, d_out)``, both float32 or better. Integers, as
    a table's rows are looked up by, come as they are, ``(n, s, 1)``, each a point of its own. It returns
    the :class:`Factors`, or :class:`LookupFactors`, of those of the layer's parameters that require a gradient.

    Args:
        layer_type: A module type that owns parameters and is called with one tensor.

    Returns:
        The decorator, which hands the rule back unchanged.
    """

    def register(rule: LayerRule) -> LayerRule:
        _rules[layer_type] = rule
        return rule

    return register


def rule_for(layer: nn.Module) -> LayerRule | None:
    """The rule registered for the layer's type, or None."""
    return _rules.get(type(layer))


def registered_layer_types() -> list[str]:
    """Names of the layer types that have a rule, for messages."""
    return sorted(layer_type.__name__ for layer_type in _rules)


@register_layer_rule(nn.Linear)
def linear_rule(layer: nn.Linear, inputs: Tensor, cotangents: Tensor) -> list[Factors]:
    """``d f / d W = cotangent input^T`` and ``d f / d b = cotangent``: a bias is a weight on a constant input."""
    # torch's gradient of a complex weight holds the input's conjugate; for real ones conj() does nothing.
    columns = [inputs.conj()] if layer.weight.requires_grad else []
    if layer.bias is not None and layer.bias.requires_grad:
        columns.append(torch.ones_like(inputs[..., :1]))
    return [Factors(torch.cat(columns, dim=-1), cotangents)] if columns else []
