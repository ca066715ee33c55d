"""What the adjustment saw, and which steps it left alone."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

logger = logging.getLogger("iga_nerfstudio")

Reason = Literal[
    "kernel_not_finite",
    "eigensolver_failed",
    "beyond_rank",
    "too_few_groups",
    "residual_not_finite",
    "between_refreshes",
    "nothing_trained",
]
"""Why a step's gradient was left as it was."""

_EXPLANATIONS: dict[Reason, str] = {
    "kernel_not_finite": "the kernel holds NaN or infinite entries",
    "eigensolver_failed": "no eigensolver found the kernel's eigenpairs",
    "beyond_rank": "the balanced range lies beyond the kernel's numerical rank",
    "too_few_groups": "the batch has fewer groups than eigenvalues to balance",
    "residual_not_finite": "the loss gradient holds NaN or infinite entries",
    "between_refreshes": "the kernel is not refreshed at this step and the groups are other ones",
    "nothing_trained": "no parameter of the network requires a gradient, so it has no kernel",
}


@dataclass
class Diagnostics:
    """What the adjustment saw at its latest step.

    Attributes:
        step: Number of steps taken, this one included.
        adjusted: Whether this step's gradient goes through the transform.
        eigenvalues: Leading eigenvalues of the latest kernel, descending, ``(k,)``; empty before the first.
        target: Eigenvalue that the balanced ones are brought to, a scalar tensor, like the next one left where the
            kernel is, so that a GPU is not waited for until somebody reads it; NaN while there is no transform.
        effective_rank: ``tr(K)^2 / ||K||_F^2`` of the latest kernel, between 1 and n: how many eigenvalues carry it.
        unadjusted: Number of steps left unadjusted so far, by reason.
        left_out: How many of the eigenvalues up to ``end`` the latest kernel has only as rounding errors, so that they
            are not balanced.
        steps_reduced: Number of steps so far that were adjusted without some of them.
    """

    step: int = 0
    adjusted: bool = False
    eigenvalues: Tensor = field(default_factory=lambda: torch.empty(0))
    target: Tensor = field(default_factory=lambda: torch.tensor(torch.nan))
    effective_rank: Tensor = field(default_factory=lambda: torch.tensor(torch.nan))
    unadjusted: Counter[Reason] = field(default_factory=Counter)
    left_out: int = 0
    steps_reduced: int = 0

    @property
    def steps_unadjusted(self) -> int:
        """Steps left unadjusted so far, whatever the reason."""
        return sum(self.unadjusted.values())

    def count(self, reason: Reason, detail: str = "") -> None:
        """Count a step that is left unadjusted; log the 1st, 10th, 100th, ... of each reason.

        Args:
            reason: Why.
            detail: What else is known, for the log.
        """
        self.unadjusted[reason] += 1
        times = self.unadjusted[reason]
        if reason != "between_refreshes" and power_of_ten(times):
            logger.warning(
                "IGA left the gradient of step %d unadjusted: %s. %d such step(s) so far. %s",
                self.step,
                _EXPLANATIONS[reason],
                times,
                detail,
            )

    def count_reduced(self, end: int) -> None:
        """Count a step of fewer eigenvalues than asked for, and log as for unadjusted ones.

        Args:
            end: What was asked for.
        """
        self.steps_reduced += 1
        if power_of_ten(self.steps_reduced):
            logger.warning(
                "IGA balanced the eigenvalues of step %d up to %d instead of %d: the others are below the kernel's "
                "rounding error. %d such step(s) so far.",
                self.step,
                end - self.left_out,
                end,
                self.steps_reduced,
            )


def power_of_ten(count: int) -> bool:
    """Whether it is the 1st, 10th, 100th, ... time, which is when something is worth a line or another look."""
    return str(count).strip("0") == "1"
