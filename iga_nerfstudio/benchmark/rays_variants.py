"""The choices of kernel that the study of rays compares, and the learning rates."""

from __future__ import annotations

from typing import Any, Literal

VariantName = Literal[
    "plain",
    "heaviest",
    "heaviest-4",
    "rays",
    "visible",
    "colours",
    "sample",
    "end-50",
]
OptimizerKind = Literal["adam", "muon"]

# Samples of a ray in the fine pass: the coarse ones, as many again, and the resampler's further edge.
COARSE = 24
FINE = 2 * COARSE + 1
# What every choice changes in the adjustment.
VARIANTS: dict[VariantName, dict[str, Any]] = {
    "plain": {"enabled": False},
    "heaviest": {},
    "heaviest-4": {"num_representatives": 4},
    "rays": {"kernel_of": "rays", "num_representatives": FINE},
    "visible": {"kernel_of": "rays"},
    "colours": {"readout": "colours"},
    "sample": {"granularity": "sample"},
    "end-50": {"end": 50},
}
EXPLANATIONS: dict[VariantName, str] = {
    "plain": "no adjustment",
    "heaviest": "the sample of largest weight, as in the paper",
    "heaviest-4": "mean of the 4 heaviest samples, in proportion to their weights",
    "rays": "the rendered colours of the rays, exactly",
    "visible": "the rendered colours through the heaviest sample: background rays are left out",
    "colours": "the heaviest sample's colours without its density",
    "sample": "the heaviest sample; the gradient of every sample's outputs is adjusted, not that of the ray's colour",
    "end-50": "the heaviest sample, 50 balanced eigenvalues instead of 25",
}
# Learning rates compared on the first seed; the first is the one of all variants.
RATES: dict[OptimizerKind, tuple[float, ...]] = {"adam": (3e-3, 1.5e-3, 6e-3), "muon": (2e-2, 1e-2, 4e-2)}
