"""The transformation S_e: a low-rank update of the identity that evens out the leading eigenvalues of the eNTK."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from iga_nerfstudio.adjustment.precision import full_precision
from iga_nerfstudio.settings import BalanceRule


class DegenerateKernelError(ValueError):
    """The kernel's spectrum cannot be balanced: eigenvalues are not finite, or rounding errors from ``start`` on."""


def require_whole_numbers(**settings: object) -> None:
    """Refuse what is no whole number: 3.0 and "3" neither; those of numpy are.

    Args:
        settings: Values by name.

    Raises:
        ValueError: If one is none, with its name.
    """
    for name, value in settings.items():
        if isinstance(value, bool) or not hasattr(type(value), "__index__"):
            raise ValueError(f"{name} must be a whole number, got {value!r}.")


def validate_balance(start: int, end: int, rule: str) -> None:
    """Check a spectral range and balance rule before any kernel is computed.

    Args:
        start: First balanced eigenvalue, counted from 1.
        end: Last balanced eigenvalue, counted from 1; 0 switches the adjustment off.
        rule: Which eigenvalue the others are set to, ``"adam"`` or ``"sgd"``.

    Raises:
        ValueError: If the range is empty, negative or not of whole numbers, or the rule is unknown.
    """
    require_whole_numbers(start=start, end=end)
    if rule not in get_args(BalanceRule):
        raise ValueError(f"Unknown balance rule {rule!r}. Choose one of {', '.join(get_args(BalanceRule))}.")
    if start < 1:
        raise ValueError(f"start counts eigenvalues from 1, but start={start}. Use start=1 for the largest one.")
    if end < 0:
        raise ValueError(f"end must not be negative, but end={end}. Use end=0 to leave gradients unadjusted.")
    if 0 < end < start:
        raise ValueError(f"end must not be smaller than start, but start={start} and end={end}.")


def validate_power(power: float) -> None:
    """Check how far the balanced eigenvalues are to be brought.

    Args:
        power: Share of the way to the target, on a logarithmic scale.

    Raises:
        ValueError: If it is not in (0, 1].
    """
    if isinstance(power, str) or not 0 < power <= 1:
        raise ValueError(
            f"power says how far eigenvalues are brought to their target and lies in (0, 1], got {power!r}. Use 1 for "
            "all the way, and end=0 to leave gradients unadjusted."
        )


def validate_floor(floor: float) -> None:
    """Check how much of a balanced direction is kept at least.

    Args:
        floor: Least factor of a balanced direction.

    Raises:
        ValueError: If it is not in [0, 1).
    """
    if isinstance(floor, str) or not 0 <= floor < 1:
        raise ValueError(
            f"floor says how much of a balanced direction is kept at least and lies in [0, 1), got {floor!r}. Use 0 "
            "for what the balance asks for, and end=0 to leave gradients unadjusted."
        )


def eigenpairs_needed(end: int, rule: BalanceRule) -> int:
    """How many leading eigenpairs the transform reads: ``end`` for SGD, ``end + 1`` for Adam, 0 if ``end`` is 0."""
    return 0 if end == 0 else end + (rule == "adam")


@dataclass(frozen=True)
class SpectralTransform:
    """S_e = I + V diag(c) V^T, with ``c_i = max((g / lambda_i)^power, floor) - 1`` on the balanced range.

    Multiplying the residual by S_e turns the training dynamics' eigenvalues lambda_i into g for i in [start, end] and
    leaves the rest of the spectrum alone (paper Eq. 5). With a power below 1, which the paper does not have, they come
    a part of the way only, to ``lambda_i^(1 - power) g^power``, and keep their order. With a floor, which it does not
    have either, no direction is slowed to less than that share of its speed: where the first eigenvalues are thousands
    of times g, what they stand for would else be learned last. S_e is never formed: applying it to a residual of m
    columns costs ``4 n (end - start + 1) m`` operations.

    Eigenvalues below the rounding error of an n x n eigenproblem, ``n eps lambda_1``, say nothing, and dividing by them
    would be worse: they are left out, and the range ends before them.

    Attributes:
        vectors: Balanced eigenvectors, orthonormal columns, ``(n, k)`` with ``k = end - start + 1``.
        coefficients: ``max((g / lambda_i)^power, floor) - 1``, ``(k,)``.
        target: The eigenvalue g that the balanced ones are brought to, a scalar tensor (1 for the identity).
    """

    vectors: Tensor
    coefficients: Tensor
    target: Tensor

    @classmethod
    def from_eigenpairs(
        cls,
        values: Tensor,
        vectors: Tensor,
        *,
        end: int,
        start: int = 1,
        rule: BalanceRule = "adam",
        power: float = 1.0,
        floor: float = 0.0,
    ) -> SpectralTransform:
        """Build S_e from leading eigenpairs of the kernel.

        Args:
            values: Leading eigenvalues, descending, ``(k,)`` with ``k >= end + 1`` for Adam, ``k >= end`` for SGD.
            vectors: Their eigenvectors as columns, ``(n, k)``.
            end: Last balanced eigenvalue, counted from 1. 0 gives the identity.
            start: First balanced eigenvalue, counted from 1.
            rule: ``"sgd"`` raises the range to lambda_start (Eq. 5), right for plain gradient descent. ``"adam"``
                lowers it to lambda_{end+1} (Sec. 3.4), right for Adam and other normalising optimisers.
            power: Share of the way to the target, on a logarithmic scale; the paper's is 1.
            floor: Least factor of a balanced direction, in [0, 1); the paper's is 0.

        Returns:
            The transform, of the dtype and on the device of ``values``.

        Raises:
            ValueError: If range, power or floor is invalid, or shapes do not fit together or hold too few eigenpairs.
            DegenerateKernelError: If an eigenvalue that is needed is not finite, or so many are zero up to rounding
                that nothing is left of the range.
        """
        validate_balance(start, end, rule)
        validate_power(power)
        validate_floor(floor)
        if values.ndim != 1 or vectors.ndim != 2 or vectors.shape[1] != values.shape[0]:
            raise ValueError(
                f"Expected values of shape (k,) and vectors of shape (n, k), got {tuple(values.shape)} and "
                f"{tuple(vectors.shape)}."
            )
        if end == 0:
            return cls(vectors[:, :0], values[:0], values.new_ones(()))
        needed = eigenpairs_needed(end, rule)
        if values.shape[0] < needed:
            raise ValueError(
                f"Balancing eigenvalues {start}..{end} under rule {rule!r} needs {needed} leading eigenpairs, got "
                f"{values.shape[0]}. Compute more, or lower end."
            )
        rank = _numerical_rank(values[:needed], num_rows=vectors.shape[0])
        resolved = min(end, rank - needed + end)
        if resolved < start:
            raise DegenerateKernelError(
                f"Balancing eigenvalues {start}..{end} reaches past the kernel's numerical rank of {rank}."
            )
        balanced = slice(start - 1, resolved)
        target = values[resolved] if rule == "adam" else values[start - 1]
        factors = ((target / values[balanced]) ** power).clamp_min(floor)
        return cls(vectors[:, balanced], factors - 1, target)

    def to(self, device: torch.device) -> SpectralTransform:
        """The same on another device."""
        return SpectralTransform(self.vectors.to(device), self.coefficients.to(device), self.target.to(device))

    def among(self, places: Tensor, n: int) -> SpectralTransform:
        """The same transform of some groups among n, the others of which it leaves as they are.

        Args:
            places: Where among the n its groups are, ``(m,)``.
            n: Number of all groups.
        """
        vectors = self.vectors.new_zeros(n, self.rank)
        vectors[places] = self.vectors
        return SpectralTransform(vectors, self.coefficients, self.target)

    @property
    def rank(self) -> int:
        """Number of balanced eigenvectors, k."""
        return self.coefficients.shape[0]

    def apply(self, residual: Tensor) -> Tensor:
        """Multiply a residual by S_e along its first axis.

        Args:
            residual: ``(n, ...)``, any floating or complex dtype; the trailing axes are independent columns.

        Returns:
            S_e residual, of the residual's shape and dtype.

        Raises:
            ValueError: If the first axis is not n long.
        """
        if residual.shape[0] != self.vectors.shape[0]:
            raise ValueError(
                f"The transform was built for {self.vectors.shape[0]} groups, but the residual has shape "
                f"{tuple(residual.shape)}: its first axis must run over the groups."
            )
        if self.rank == 0:
            return residual
        if residual.is_complex():
            return torch.view_as_complex(self.apply(torch.view_as_real(residual)))
        with full_precision(residual.device):
            columns = residual.reshape(residual.shape[0], -1).to(self.vectors.dtype)
            components = self.coefficients[:, None] * (self.vectors.T @ columns)
            adjusted = torch.addmm(columns, self.vectors, components)
        return adjusted.to(residual.dtype).reshape(residual.shape)

    def dense(self) -> Tensor:
        """S_e as an ``(n, n)`` matrix; for tests and plots."""
        identity = torch.eye(self.vectors.shape[0], dtype=self.vectors.dtype, device=self.vectors.device)
        return self.apply(identity)


def _numerical_rank(values: Tensor, num_rows: int) -> int:
    """How many of the leading eigenvalues of an n x n kernel are more than its rounding error.

    Raises:
        DegenerateKernelError: If one is not finite.
    """
    numbers = values.tolist()  # on a GPU, the one time that they are read
    if not all(map(math.isfinite, numbers)):
        raise DegenerateKernelError("The kernel's eigenvalues are not finite.")
    threshold = max(num_rows * torch.finfo(values.dtype).eps * numbers[0], 0.0)
    return sum(number > threshold for number in numbers)
