"""Activations of coordinate networks, each with the initialisation its source prescribes.

An activation knows how the weights before it are to be drawn: sources give the two together, and one without the other
does not train.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Sine(nn.Module):
    """SIREN's ``sin(omega x)`` (Sitzmann et al. 2020, Sec. 3.2).

    Args:
        omega: Angular frequency.
    """

    def __init__(self, omega: float = 30.0) -> None:
        super().__init__()
        self.omega = omega

    def forward(self, x: Tensor) -> Tensor:
        """Elementwise, any shape."""
        return torch.sin(self.omega * x)


class Finer(nn.Module):
    """FINER's ``sin(omega (|x| + 1) x)``, a sine whose frequency grows away from zero (Liu et al. 2024, Eq. 5).

    As in its authors' code no gradient flows through the factor ``|x| + 1``.

    Args:
        omega: Angular frequency at zero.
    """

    def __init__(self, omega: float = 30.0) -> None:
        super().__init__()
        self.omega = omega

    def forward(self, x: Tensor) -> Tensor:
        """Elementwise, any shape."""
        return torch.sin(self.omega * (x.detach().abs() + 1) * x)


class Gauss(nn.Module):
    """``exp(-(scale x)^2)`` (Ramasinghe & Lucey 2022).

    Args:
        scale: Inverse width.
    """

    def __init__(self, scale: float = 30.0) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """Elementwise, any shape."""
        return torch.exp(-((self.scale * x) ** 2))


class RealGabor(nn.Module):
    """Real Gabor wavelet ``cos(omega x) exp(-(scale x)^2)``, WIRE's real variant (Saragadam et al. 2023).

    Args:
        omega: Angular frequency.
        scale: Inverse width.
    """

    def __init__(self, omega: float = 20.0, scale: float = 10.0) -> None:
        super().__init__()
        self.omega, self.scale = omega, scale

    def forward(self, x: Tensor) -> Tensor:
        """Elementwise, any shape."""
        return torch.cos(self.omega * x) * torch.exp(-((self.scale * x) ** 2))


class ComplexGabor(nn.Module):
    """WIRE's ``exp(i omega x - |scale x|^2)`` (Saragadam et al. 2023, Eq. 3).

    Args:
        omega: Angular frequency.
        scale: Inverse width.
    """

    def __init__(self, omega: float = 20.0, scale: float = 10.0) -> None:
        super().__init__()
        self.omega, self.scale = omega, scale

    def forward(self, x: Tensor) -> Tensor:
        """Elementwise; complex out, real or complex in."""
        return torch.exp(1j * self.omega * x - (self.scale * x).abs().square())
