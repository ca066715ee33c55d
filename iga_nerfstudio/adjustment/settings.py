"""The adjustment as settings of a run: for command lines and files, in one place for all methods."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from torch import nn

from iga_nerfstudio.adjustment.adjuster import InductiveGradientAdjuster
from iga_nerfstudio.adjustment.eigen import EigenMethod
from iga_nerfstudio.adjustment.grouping import Grouping
from iga_nerfstudio.adjustment.representatives import Representative
from iga_nerfstudio.adjustment.transform import BalanceRule


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
    representative: Representative = "largest_residual"
    """Which point stands for its group."""
    num_representatives: int = 1
    """Points per group in the kernel."""
    eigen_method: EigenMethod = "auto"
    """Leading eigenpairs by full decomposition, by block Lanczos, or whichever is faster."""
    refresh_interval: int = 1
    """Compute the kernel every that many steps. For SIREN 2 cost 0.1 dB in a short run, 5 cost 1.2; PE lost nothing."""

    def adjuster(self, network: nn.Module, grouping: Grouping, **others: Any) -> InductiveGradientAdjuster:
        """The adjuster that these settings describe.

        Args:
            network: The network to train.
            grouping: How a batch's rows form groups.
            others: Its further arguments: readout, seed, gather.

        Raises:
            ValueError: If a setting is invalid, or one that a run fills in is still open.
        """
        return InductiveGradientAdjuster(network, grouping, **self.arguments(), **others)

    def arguments(self) -> dict[str, Any]:
        """The settings by name, for an adjuster.

        Raises:
            ValueError: If one that a run fills in is still open.
        """
        settings = {setting.name: getattr(self, setting.name) for setting in fields(AdjustmentSettings)}
        missing = [name for name, value in settings.items() if value is None]
        if missing:
            raise ValueError(f"An adjuster needs {', '.join(missing)}.")
        return settings
