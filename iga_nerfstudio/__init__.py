"""Inductive Gradient Adjustment (IGA, ICML 2025) for coordinate networks: a torch library and a nerfstudio plugin."""

from iga_nerfstudio.adjustment import *  # noqa: F403
from iga_nerfstudio.adjustment import __all__
from iga_nerfstudio.version import __version__

__all__ = [*__all__, "__version__"]
