"""Muon for nerfstudio's optimiser settings."""

from __future__ import annotations

from dataclasses import dataclass, field

from nerfstudio.engine.optimizers import OptimizerConfig
from torch.nn import Parameter

from iga_nerfstudio.muon import MuonWithAdam


@dataclass
class MuonOptimizerConfig(OptimizerConfig):
    """Muon on weight matrices and Adam on everything else, as one optimiser.

    For fields of linear layers. A hash table of four features or more is a matrix too, and none that Muon is meant for:
    give it to Adam, in a parameter group of its own.
    """

    _target: type = field(default_factory=lambda: MuonWithAdam)
    """The optimiser."""
    lr: float = 2e-2
    """Learning rate of the matrices. A schedule multiplies that of Adam by the same factor."""
    momentum: float = 0.95
    """Momentum of the matrices, Nesterov's."""
    adam_lr: float = 1e-3
    """Learning rate of all other parameters."""

    def setup(self, params: list[Parameter]) -> MuonWithAdam:
        """The optimiser of these parameters."""
        return self._target(params, lr=self.lr, momentum=self.momentum, adam_lr=self.adam_lr, eps=self.eps)
