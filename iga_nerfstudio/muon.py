"""Muon on weight matrices and Adam on everything else, as one optimiser."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer

# Newton-Schulz iteration of Muon: a quintic whose slope at zero is steep, so that five rounds bring every singular
# value near one (Jordan et al. 2024); the values that torch.optim.Muon has.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ROUNDS = 5
_SMALLEST_NORM = 1e-7


class MuonWithAdam(Optimizer):
    """Muon for real matrices, ``torch.optim.Adam`` for vectors, for complex parameters and for matrices of few columns.

    One optimiser to the outside: one list of parameter groups (the matrices first), one state, one ``state_dict``;
    learning rate schedules and gradient scalers see nothing unusual. The steps of matrices are those of
    ``torch.optim.Muon`` without weight decay (a coordinate network is meant to reproduce its data), except that they
    are orthogonalised in float32 rather than in bfloat16: on a CPU without bfloat16 units that is some 50 times faster.

    Args:
        params: Parameters to train.
        lr: Learning rate of the matrices.
        momentum: Momentum of the matrices, Nesterov's.
        adam_lr: Learning rate of all other parameters.
        eps: Adam's term for stability.
        fewest_columns: Matrices of fewer columns are Adam's. Two or three have the weights that positions go into, all
            of whose directions Muon would give steps of one size, and tables of features, which are no linear maps.

    Raises:
        ValueError: If there is no parameter.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 2e-2,
        momentum: float = 0.95,
        adam_lr: float = 1e-3,
        eps: float = 1e-8,
        fewest_columns: int = 4,
    ) -> None:
        matrices: list[Tensor] = []
        others: list[Tensor] = []
        for p in params:
            for_muon = p.ndim == 2 and not p.is_complex() and p.shape[1] >= fewest_columns
            (matrices if for_muon else others).append(p)
        self._adam = Adam(others, lr=adam_lr, eps=eps) if others else None
        groups: list[dict[str, Any]] = [{"params": matrices, "lr": lr, "momentum": momentum}] if matrices else []
        if self._adam is not None:
            groups += self._adam.param_groups
        super().__init__(groups, {})

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_adam": self._adam}

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step.

        Args:
            closure: Evaluates the model again and returns the loss, as for every torch optimiser.

        Returns:
            What the closure returned.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            if "betas" not in group:
                self._step_matrices(group)
            elif self._adam is not None:
                # Loading a state replaces groups and state; Adam works on those of today.
                self._adam.param_groups, self._adam.state = [group], self.state
                self._adam.step()
        return loss

    def _step_matrices(self, group: dict[str, Any]) -> None:
        for matrix in group["params"]:
            if matrix.grad is None:
                continue
            state = self.state[matrix]
            if not state:
                state["momentum_buffer"] = torch.zeros_like(matrix)
            average = state["momentum_buffer"].lerp_(matrix.grad, 1 - group["momentum"])
            direction = orthogonalise(matrix.grad.lerp(average, group["momentum"]))
            # Tall matrices take longer steps, so that outputs change by as much as those of square ones.
            rows, columns = matrix.shape
            matrix.add_(direction, alpha=-group["lr"] * math.sqrt(max(1.0, rows / columns)))


def orthogonalise(matrix: Tensor) -> Tensor:
    """Bring all singular values of a matrix near one, by five Newton-Schulz rounds.

    Args:
        matrix: ``(m, n)``, real.

    Returns:
        ``(m, n)``, same singular vectors; singular values that are not tiny to begin with end between 0.7 and 1.2.
    """
    a, b, c = _COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / x.norm().clamp_min(_SMALLEST_NORM)
    for _ in range(_ROUNDS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x
