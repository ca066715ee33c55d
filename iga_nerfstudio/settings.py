"""Settings of the adjustment and of coordinate networks, for command lines and files: no need of torch to read them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any, Literal

BalanceRule = Literal["adam", "sgd"]
"""For which optimiser eigenvalues are balanced: one that normalises, or plain gradient descent."""

EigenMethod = Literal["auto", "dense", "subspace"]
"""How leading eigenpairs are found: whichever is faster, by full decomposition, or by block Lanczos."""

Representative = Literal[
    "largest_residual", "previous_residual", "all_maxima", "largest_weight", "random", "random_once", "middle", "mean"
]
"""Who stands for a group."""

NetworkKind = Literal[
    "relu", "pe", "fourier", "siren", "gauss", "wire", "complex_wire", "finer", "gauss_finer", "wire_finer"
]
"""Architectures of coordinate networks."""


def earlier_values(settings: Any) -> dict[str, Any]:
    """What was done before there was a choice, by the names of the settings that came later.

    A run's file that does not name such a setting is from before it.

    Args:
        settings: A dataclass, or one of its objects; its fields' metadata say ``earlier``.
    """
    return {one.name: one.metadata["earlier"] for one in fields(settings) if "earlier" in one.metadata}


@dataclass
class AdjustmentSettings:
    """How the gradient is adjusted."""

    enabled: bool = True
    """Adjust the gradient. False is the plain run: same network, data, schedule and random numbers."""
    start: int = 1
    """First balanced eigenvalue of the kernel, counted from 1."""
    end: int | None = None
    """Last balanced eigenvalue: larger acts more strongly on fine detail, 0 is plain training. Less than the number of
    groups. If not given, one for every 19 groups, at most 25."""
    rule: BalanceRule | None = None
    """Balance to eigenvalue end + 1 (adam; for Muon too) or start (sgd); what suits the optimiser if not given."""
    power: float | None = None
    """How far the balanced eigenvalues are brought to that one, in (0, 1]: 1 is all the way, as in the paper. If not
    given, 1, but 0.7 under Muon where end is not given either."""
    representative: Representative | None = "largest_residual"
    """Which point stands for its group."""
    num_representatives: int = 1
    """Points per group in the kernel."""
    eigen_method: EigenMethod = "auto"
    """Leading eigenpairs by full decomposition, by block Lanczos, or whichever is faster."""
    refresh_interval: int = 1
    """Compute the kernel every that many steps. For SIREN 2 cost 0.1 dB in a short run, 5 cost 1.2; PE lost nothing."""


@dataclass
class FourierReparameterisation:
    """Fixed bases of Fourier-reparameterised hidden layers."""

    enabled: bool = False
    """Train hidden weights as combinations of fixed Fourier bases (FR)."""
    num_high: int = 128
    """High frequencies, 1 to H."""
    num_low: int = 128
    """Low frequencies, i / L."""
    num_phases: int = 32
    """Phases per frequency."""
    alpha: float | None = None
    """Amplitude of the bases; the paper's for the network if not given."""


@dataclass
class NetworkConfig:
    """A coordinate network."""

    kind: NetworkKind = "pe"
    """Architecture."""
    hidden_dim: int = 256
    """Width of the hidden layers; complex_wire and wire_finer divide it by sqrt(2)."""
    hidden_layers: int = 3
    """Number of hidden layers."""
    octaves: int = 6
    """Octaves of the positional encoding (pe)."""
    octave_scale: float = math.pi
    """Angular frequency of its first octave (pe)."""
    num_features: int = 128
    """Random Fourier features (fourier)."""
    feature_scale: float = 10.0
    """Standard deviation of their frequencies (fourier)."""
    omega: float | None = None
    """Frequency of sines and FINER; the source's default if not given."""
    omega_wavelet: float | None = None
    """Frequency of Gabor wavelets; the source's default if not given."""
    scale: float | None = None
    """Inverse width of Gaussians and wavelets; the source's default if not given."""
    first_bias: float | None = None
    """Range of the first layer's bias (FINER and its kin); the source's default if not given."""
    fourier_reparameterisation: FourierReparameterisation = field(default_factory=FourierReparameterisation)
    """FR, a baseline of the paper."""
    batch_norm: bool = False
    """Batch normalisation of hidden layers (BN), a baseline of the paper."""
