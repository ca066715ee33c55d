"""Coordinate networks."""

from iga_nerfstudio.networks.activations import ComplexGabor, Finer, Gauss, RealGabor, Sine
from iga_nerfstudio.networks.builder import CoordinateMLP, begin_near, build_network
from iga_nerfstudio.networks.encoding import FourierFeatures, FrequencyEncoding
from iga_nerfstudio.networks.layers import FourierReparameterisedLinear, PointwiseBatchNorm
from iga_nerfstudio.networks.nerf_mlp import NeRFMLP
from iga_nerfstudio.settings import FourierReparameterisation, NetworkConfig

__all__ = [
    "ComplexGabor",
    "CoordinateMLP",
    "Finer",
    "FourierFeatures",
    "FourierReparameterisation",
    "FourierReparameterisedLinear",
    "FrequencyEncoding",
    "Gauss",
    "NeRFMLP",
    "NetworkConfig",
    "PointwiseBatchNorm",
    "RealGabor",
    "Sine",
    "begin_near",
    "build_network",
]
