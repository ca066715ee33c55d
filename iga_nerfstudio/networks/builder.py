"""One builder for every coordinate network of the paper."""

from __future__ import annotations

import math
from typing import cast, get_args

import torch
from torch import Tensor, nn

from iga_nerfstudio.arguments import positive
from iga_nerfstudio.networks.activations import ComplexGabor, Finer, Gauss, RealGabor, Sine
from iga_nerfstudio.networks.encoding import FourierFeatures, FrequencyEncoding
from iga_nerfstudio.networks.layers import FourierReparameterisedLinear, PointwiseBatchNorm
from iga_nerfstudio.settings import NetworkConfig, NetworkKind

# Frequency, wavelet frequency, inverse width and range of the first bias: each source's own values for images, and the
# paper's (App. E) for the FINER variants.
_DEFAULTS: dict[str, dict[str, float]] = {
    "siren": {"omega": 30.0},
    "finer": {"omega": 30.0},
    "gauss": {"scale": 30.0},
    "wire": {"omega_wavelet": 20.0, "scale": 10.0},
    "complex_wire": {"omega_wavelet": 20.0, "scale": 10.0},
    "gauss_finer": {"omega": 10.0, "scale": 3.0, "first_bias": 1.0},
    "wire_finer": {"omega": 5.0, "omega_wavelet": 4.0, "scale": 2.0, "first_bias": 1.0},
}
# Amplitude of the Fourier bases where the paper gives one (images).
_FR_ALPHA = {"relu": 0.001, "pe": 0.05, "fourier": 0.05, "siren": 0.004}
# How far from the mean of the data a network's first output is, over what its weights as they are drawn make of it.
_FIRST_SPREAD = 0.1
# Networks whose weights are drawn for sines: the first layer in +-1/d, the others in +-sqrt(c / d) / omega.
_SINE_GAIN = {"siren": 6.0, "finer": 6.0, "gauss_finer": 1.0, "wire_finer": 1.0}


class CoordinateMLP(nn.Module):
    """An encoding, hidden layers with activations, and a linear layer.

    Args:
        encoding: What the first layer is fed.
        layers: Hidden layers, normalisations and activations in order, then the last linear layer.
    """

    def __init__(self, encoding: nn.Module, layers: list[nn.Module]) -> None:
        super().__init__()
        self.encoding = encoding
        self.layers = nn.Sequential(*layers)

    def forward(self, coordinates: Tensor) -> Tensor:
        """Coordinates ``(..., d)`` to outputs ``(..., C)``; the real part where layers are complex."""
        return self.layers(self.encoding(coordinates)).real


def build_network(config: NetworkConfig, in_dim: int, out_dim: int) -> CoordinateMLP:
    """Build a coordinate network, initialised as its source prescribes.

    Args:
        config: What to build.
        in_dim: Coordinates per input, d.
        out_dim: Outputs, C.

    Returns:
        The network.

    Raises:
        ValueError: If the kind is unknown, a size is not positive, or the combination is not possible.
    """
    _validate(config, in_dim, out_dim)
    encoding = _encoding(config, in_dim)
    width = (
        int(config.hidden_dim / math.sqrt(2)) if config.kind in ("complex_wire", "wire_finer") else config.hidden_dim
    )
    fed = encoding.out_dim if isinstance(encoding, FrequencyEncoding | FourierFeatures) else in_dim
    layers: list[nn.Module] = []
    for i in range(config.hidden_layers):
        layers += _hidden_layer(config, fed, width, first=i == 0)
        fed = width
    layers.append(_last_layer(config, fed, out_dim))
    return CoordinateMLP(encoding, layers)


@torch.no_grad()
def begin_near(network: CoordinateMLP, values: Tensor) -> None:
    """Make a network that is not trained yet give nearly the same values everywhere: the last layer's bias is those,
    and its weights become a tenth of what they are.

    Args:
        network: The network; changed in place.
        values: ``(C,)``; for the mean of the data no step goes into learning that.

    Raises:
        ValueError: If there are not as many values as outputs.
    """
    last = cast(nn.Linear, network.layers[-1])
    if values.shape != last.bias.shape:
        raise ValueError(
            f"The network has {len(last.bias)} outputs, so values of shape ({len(last.bias)},) are needed, got "
            f"{tuple(values.shape)}."
        )
    last.weight.mul_(_FIRST_SPREAD)
    last.bias.copy_(values)


def _validate(config: NetworkConfig, in_dim: int, out_dim: int) -> None:
    if config.kind not in get_args(NetworkKind):
        raise ValueError(f"Unknown network {config.kind!r}. Choose one of {', '.join(get_args(NetworkKind))}.")
    if min(in_dim, out_dim, config.hidden_dim, config.hidden_layers) < 1:
        raise ValueError(
            f"Sizes must be positive, got in_dim={in_dim}, out_dim={out_dim}, hidden_dim={config.hidden_dim}, "
            f"hidden_layers={config.hidden_layers}."
        )
    if config.batch_norm and config.kind not in ("relu", "pe", "fourier"):
        raise ValueError(
            f"Batch normalisation and {config.kind} do not go together: normalising undoes the initialisation that the "
            "activation needs (the paper leaves SIREN+BN out for it). Use it with relu, pe or fourier."
        )
    if config.fourier_reparameterisation.enabled and config.kind not in ("relu", "pe", "fourier", "siren"):
        raise ValueError(
            f"Fourier reparameterisation is not defined for {config.kind}. Use it with relu, pe, fourier or siren."
        )


def setting(config: NetworkConfig, name: str) -> float:
    """A frequency or width of a network's settings, or its source's default.

    Raises:
        ValueError: If it is not positive.
    """
    given = getattr(config, name)
    return _DEFAULTS[config.kind][name] if given is None else positive(f"The network's {name}", given)


def _encoding(config: NetworkConfig, in_dim: int) -> nn.Module:
    if config.kind == "pe":
        return FrequencyEncoding(in_dim, config.octaves, setting(config, "octave_scale"))
    if config.kind == "fourier":
        return FourierFeatures(in_dim, config.num_features, setting(config, "feature_scale"))
    return nn.Identity()


def _hidden_layer(config: NetworkConfig, in_dim: int, out_dim: int, first: bool) -> list[nn.Module]:
    """A hidden layer and its activation; the first one is never reparameterised."""
    linear = _linear(config, in_dim, out_dim, first)
    activation = _activation(config)
    if not config.batch_norm:
        return [linear, activation]
    norm = PointwiseBatchNorm(out_dim)
    # Where each did better in the paper: after a plain ReLU, before it behind an encoding.
    return [linear, activation, norm] if config.kind == "relu" else [linear, norm, activation]


def _linear(config: NetworkConfig, in_dim: int, out_dim: int, first: bool) -> nn.Module:
    reparameterisation = config.fourier_reparameterisation
    if reparameterisation.enabled and not first:
        alpha = _FR_ALPHA[config.kind] if reparameterisation.alpha is None else reparameterisation.alpha
        gain = 1 / setting(config, "omega") if config.kind == "siren" else 1.0
        return FourierReparameterisedLinear(
            in_dim,
            out_dim,
            reparameterisation.num_high,
            reparameterisation.num_low,
            reparameterisation.num_phases,
            alpha,
            gain,
        )
    dtype = torch.complex64 if config.kind == "complex_wire" and not first else None
    linear = nn.Linear(in_dim, out_dim, dtype=dtype)
    if config.kind in _SINE_GAIN:
        _draw_for_sines(config, linear, first)
    return linear


def _draw_for_sines(config: NetworkConfig, linear: nn.Linear, first: bool) -> None:
    """SIREN's initialisation and its variants: activations keep their distribution through the layers."""
    omega = setting(config, "omega") * (setting(config, "omega_wavelet") if config.kind == "wire_finer" else 1.0)
    bound = 1 / linear.in_features if first else math.sqrt(_SINE_GAIN[config.kind] / linear.in_features) / omega
    nn.init.uniform_(linear.weight, -bound, bound)
    first_bias = config.first_bias if config.first_bias is not None else _DEFAULTS[config.kind].get("first_bias")
    if first and first_bias is not None:
        if not 0 <= first_bias < math.inf:
            raise ValueError(f"The network's first_bias is a range, 0 or more; got {first_bias}.")
        nn.init.uniform_(linear.bias, -first_bias, first_bias)


def _activation(config: NetworkConfig) -> nn.Module:
    if config.kind == "siren":
        return Sine(setting(config, "omega"))
    if config.kind == "finer":
        return Finer(setting(config, "omega"))
    if config.kind == "gauss":
        return Gauss(setting(config, "scale"))
    if config.kind == "wire":
        return RealGabor(setting(config, "omega_wavelet"), setting(config, "scale"))
    if config.kind == "complex_wire":
        return ComplexGabor(setting(config, "omega_wavelet"), setting(config, "scale"))
    if config.kind == "gauss_finer":
        return nn.Sequential(Finer(setting(config, "omega")), Gauss(setting(config, "scale")))
    if config.kind == "wire_finer":
        wavelet = RealGabor(setting(config, "omega_wavelet"), setting(config, "scale"))
        return nn.Sequential(Finer(setting(config, "omega")), wavelet)
    return nn.ReLU()


def _last_layer(config: NetworkConfig, in_dim: int, out_dim: int) -> nn.Linear:
    linear = nn.Linear(in_dim, out_dim, dtype=torch.complex64 if config.kind == "complex_wire" else None)
    if config.kind in _SINE_GAIN:
        _draw_for_sines(config, linear, first=False)
    elif config.kind in ("relu", "pe", "fourier"):
        bound = math.sqrt(6 / in_dim)
        nn.init.uniform_(linear.weight, -bound, bound)
    return linear
