"""Coordinate networks."""

from iga_nerfstudio.networks.encoding import FrequencyEncoding
from iga_nerfstudio.networks.nerf_mlp import NeRFMLP

__all__ = ["FrequencyEncoding", "NeRFMLP"]
