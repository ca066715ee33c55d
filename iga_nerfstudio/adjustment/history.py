"""How the kernel's leading spectrum went along a training, in bounded memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from iga_nerfstudio.adjustment.adjuster import InductiveGradientAdjuster
from iga_nerfstudio.adjustment.axes import AxesAdjuster


@dataclass(frozen=True)
class Spectrum:
    """The kernel's leading spectrum at one step.

    Attributes:
        step: Adjuster's step, counted from 1.
        start: First balanced eigenvalue, counted from 1.
        end: Last balanced eigenvalue.
        eigenvalues: Leading eigenvalues, descending, ``(k,)`` on the CPU.
        target: What the balanced ones are brought to; NaN if there was no transform.
        effective_rank: ``tr(K)^2 / ||K||_F^2``.
        steps_unadjusted: Steps left unadjusted so far.
        power: Share of the way to the target that the balanced ones are brought, on a logarithmic scale.
        floor: Least factor of a balanced one.
    """

    step: int
    start: int
    end: int
    eigenvalues: Tensor
    target: float
    effective_rank: float
    steps_unadjusted: int
    # Of runs saved before there was a choice.
    power: float = 1.0
    floor: float = 0.0

    @property
    def rebalanced(self) -> Tensor:
        """The eigenvalues of the training dynamics after the transform, ``(k,)``."""
        values = self.eigenvalues.clone()
        if self.target == self.target:  # not NaN
            balanced = slice(self.start - 1, self.end)
            brought = self.target**self.power * values[balanced] ** (1 - self.power)
            values[balanced] = torch.maximum(brought, self.floor * values[balanced])
        return values


class SpectrumHistory:
    """Spectra at steps that lie evenly over a training, whatever its length.

    Args:
        capacity: Most spectra to keep. When they are that many, every other one is forgotten, and from then on half
            as many are recorded.

    Raises:
        ValueError: If there is no room for two.
    """

    def __init__(self, capacity: int = 256) -> None:
        if capacity < 2:
            raise ValueError(f"A history needs room for two spectra at least, got {capacity}.")
        self.capacity = capacity
        self.interval = 1
        self.spectra: list[Spectrum] = []

    def record(self, adjuster: InductiveGradientAdjuster | AxesAdjuster) -> None:
        """Take down the adjuster's latest spectrum if it is this step's turn; a GPU is waited for only then.

        Args:
            adjuster: After a training step; along axes the spectrum is the first one's.
        """
        seen = adjuster.diagnostics
        last = self.spectra[-1].step if self.spectra else -self.interval
        if not adjuster.enabled or not len(seen.eigenvalues) or seen.step < last + self.interval:
            return
        spectrum = latest_spectrum(adjuster)
        # A new list: another thread may be reading the old one.
        self.spectra = [*self.spectra, spectrum]
        if len(self.spectra) >= self.capacity:
            self.spectra = self.spectra[::2]
            self.interval *= 2

    def state_dict(self) -> dict[str, Any]:
        """Everything recorded, as tensors and plain Python values."""
        return {"interval": self.interval, "spectra": [vars(spectrum) for spectrum in self.spectra]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a state that :meth:`state_dict` gave."""
        self.interval = state["interval"]
        self.spectra = [Spectrum(**spectrum) for spectrum in state["spectra"]]


def latest_spectrum(adjuster: InductiveGradientAdjuster | AxesAdjuster) -> Spectrum:
    """What the adjuster's latest kernel showed.

    Args:
        adjuster: After at least one step with a kernel.
    """
    seen = adjuster.diagnostics
    return Spectrum(
        step=seen.step,
        start=adjuster.start,
        end=adjuster.end - seen.left_out,
        # Not yet on the CPU, on a GPU; a copy, so that a checkpoint holds these numbers alone.
        eigenvalues=seen.eigenvalues.detach().to("cpu", torch.float32, copy=True),
        target=float(seen.target),
        effective_rank=float(seen.effective_rank),
        steps_unadjusted=seen.steps_unadjusted,
        power=adjuster.power,
        floor=adjuster.floor,
    )
