"""Trainings whose numbers are no longer finite."""

from __future__ import annotations

import math
from collections.abc import Mapping


class TrainingDiverged(RuntimeError):
    """The loss, or a weight, is no longer finite."""


def require_finite_weights(weights: Mapping[str, object], step: int, rates: str, saved: str) -> None:
    """Refuse to save, or to go on with, weights that are not finite.

    Args:
        weights: A state dict; what is no tensor is passed over.
        step: The step after which these are the weights.
        rates: The learning rates, in words.
        saved: What is saved already, in words.

    Raises:
        TrainingDiverged: If a number is NaN or infinite; names the first such tensor.
    """
    from torch import Tensor  # here: whoever only catches the error, as command lines do, need not wait for torch

    for name, value in weights.items():
        if isinstance(value, Tensor) and not bool(value.isfinite().all()):
            raise TrainingDiverged(
                f"Training diverged: {name} is no longer finite at step {step} (learning rate {rates}). Use a smaller "
                f"learning rate. {saved}"
            )


def require_finite_loss(loss: float, step: int, rates: str, saved: str) -> None:
    """Stop a training whose loss is not finite; arguments and error as of :func:`require_finite_weights`."""
    if not math.isfinite(loss):
        raise TrainingDiverged(
            f"Training diverged: the loss is {loss} at step {step} (learning rate {rates}). Use a smaller learning "
            f"rate. {saved}"
        )
