"""Learning rate schedules whose state survives a checkpoint."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from nerfstudio.engine.schedulers import Scheduler, SchedulerConfig
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler


@dataclass
class PowerDecaySchedulerConfig(SchedulerConfig):
    """Exponential decay without a floor, as in the original NeRF.

    nerfstudio's own exponential and cosine schedules leave numpy numbers in the optimiser's state, which torch >= 2.6
    refuses to load; this one computes with Python floats.
    """

    _target: type = field(default_factory=lambda: PowerDecayScheduler)
    """Target class to instantiate."""
    decay_rate: float = 0.1
    """Factor on the learning rate after decay_steps."""
    decay_steps: int = 250_000
    """Steps after which the learning rate has fallen by decay_rate."""
    until: int | None = None
    """Step from which on the learning rate stays as it is; it goes on falling if not given."""


class PowerDecayScheduler(Scheduler):
    """Multiplies the initial learning rate by ``decay_rate ** (step / decay_steps)``, as far as ``until``."""

    config: PowerDecaySchedulerConfig

    def get_scheduler(self, optimizer: Optimizer, lr_init: float) -> LRScheduler:
        """Attach the schedule to an optimiser; ``lr_init`` is the optimiser's own learning rate.

        Raises:
            ValueError: If factor or steps are out of range.
        """
        del lr_init
        rate, steps = self.config.decay_rate, self.config.decay_steps
        if steps < 1 or not 0 < rate < math.inf:
            raise ValueError(
                "The learning rate is multiplied by scheduler.decay-rate, a positive number, in scheduler.decay-steps "
                f"steps, at least 1; got {rate} and {steps}."
            )
        until = self.config.until
        return LambdaLR(optimizer, lambda step: rate ** ((step if until is None else min(step, until)) / steps))
