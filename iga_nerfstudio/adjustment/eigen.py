"""Leading eigenpairs of a symmetric positive semi-definite kernel: dense, or by block Lanczos."""

from __future__ import annotations

import logging
from typing import get_args

import torch
from torch import Tensor

from iga_nerfstudio.adjustment.precision import full_precision
from iga_nerfstudio.settings import EigenMethod

logger = logging.getLogger("iga_nerfstudio")

# Vectors that the Krylov space grows by at once. Fewer find more with as many vectors in all, but an eigenvalue that is
# repeated more often than this is not seen as often as it is there.
BLOCK = 8
# The space is first looked at when it has this many vectors per pair, beyond one block, then each time it has grown by
# a third. Each look reads one number back to the host.
VECTORS_PER_PAIR = 3
GROWTH = 4 / 3
# Where it may not grow any further: vectors per pair beyond some, and a share of the kernel's rows.
MOST_VECTORS_PER_PAIR, MORE_VECTORS, MOST_ROWS = 10, 64, 0.5
# Largest residual |K v - lambda v| / lambda of an accepted eigenpair. To first order it bounds the error of S_e.
TOLERANCE = 1e-3
# Share of the kernel's rows up to which the space's first size is faster than a full decomposition, and the smallest
# kernel for which it can be (measured on a CPU, kernels of images, signals, shapes and NeRFs).
PAYS_UP_TO, PAYS_FROM = 0.35, 192


class KernelNotFiniteError(ValueError):
    """The kernel holds NaN or infinite entries."""


class EigenSolverError(RuntimeError):
    """No solver found the eigenpairs of a kernel that is finite."""


def leading_eigenpairs(kernel: Tensor, count: int, method: EigenMethod = "auto") -> tuple[Tensor, Tensor]:
    """The ``count`` largest eigenvalues of a kernel and their eigenvectors.

    Args:
        kernel: Symmetric positive semi-definite, ``(n, n)``, float32 or float64.
        count: How many pairs, ``1 <= count <= n``.
        method: ``"dense"`` decomposes the whole kernel. ``"subspace"`` grows a Krylov space by block Lanczos until
            every pair's relative residual is below 1e-3, and decomposes the whole kernel where that would take too
            large a space. ``"auto"`` does so where it pays: large n, few pairs.

    Returns:
        Eigenvalues ``(count,)``, descending, and orthonormal eigenvectors ``(n, count)`` as columns, of the
        kernel's dtype. Signs of eigenvectors, and bases within repeated eigenvalues, are arbitrary.

    Raises:
        ValueError: If the kernel is not a square matrix, count is out of range, or the method unknown.
        KernelNotFiniteError: If the kernel is not finite; also a ValueError.
        EigenSolverError: If the decomposition fails in float64 too.
    """
    if method not in get_args(EigenMethod):
        raise ValueError(f"Unknown eigen method {method!r}. Choose one of {', '.join(get_args(EigenMethod))}.")
    if kernel.ndim != 2 or kernel.shape[0] != kernel.shape[1]:
        raise ValueError(f"Expected a square kernel (n, n), got shape {tuple(kernel.shape)}.")
    n = kernel.shape[0]
    if not 1 <= count <= n:
        raise ValueError(f"Asked for {count} eigenpairs of a kernel of size {n}; count must lie in [1, {n}].")
    if not torch.isfinite(kernel).all():
        raise KernelNotFiniteError("The kernel holds NaN or infinite entries.")
    first = VECTORS_PER_PAIR * count + BLOCK
    iterate = method == "subspace" or (method == "auto" and n >= PAYS_FROM and first <= PAYS_UP_TO * n)
    with full_precision(kernel.device):
        if iterate:
            pairs = _lanczos(kernel, count, first)
            if pairs is not None:
                return pairs
        return _dense(kernel, count)


def _dense(kernel: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Full decomposition.

    Representatives whose output is saturated leave rows of zeros and denormal numbers in the kernel, on which LAPACK's
    float32 solver gave up for one in sixty kernels of a trained NeRF. A shift of the spectrum by its rounding error
    keeps it from working on such blocks (none of 1200 failed); where it fails all the same, float64 takes over.
    """
    shift = torch.finfo(kernel.dtype).eps * kernel.diagonal().mean()
    shifted = kernel + shift * torch.eye(len(kernel), dtype=kernel.dtype, device=kernel.device)
    try:
        values, vectors = torch.linalg.eigh(shifted)
    except torch.linalg.LinAlgError as error:
        logger.warning("The %s eigensolver failed on a kernel of size %d; using float64.", kernel.dtype, len(kernel))
        try:
            values, vectors = (result.to(kernel.dtype) for result in torch.linalg.eigh(shifted.double()))
        except torch.linalg.LinAlgError:
            raise EigenSolverError(f"The eigensolver failed on a kernel of size {len(kernel)}: {error}") from error
    return values.flip(0)[:count] - shift, vectors.flip(1)[:, :count].clone()


def _lanczos(kernel: Tensor, count: int, first: int) -> tuple[Tensor, Tensor] | None:
    """Block Lanczos with full reorthogonalisation, from fixed pseudo-random vectors; None where it did not converge.

    Args:
        kernel: ``(n, n)``.
        count: How many pairs.
        first: Vectors in the space when it is first looked at.
    """
    n = kernel.shape[0]
    most = int(min(MOST_ROWS * n, MOST_VECTORS_PER_PAIR * count + MORE_VECTORS))
    if first > most:
        return None
    last = most // BLOCK * BLOCK
    look_at = min(first, last)
    # Rows, so that what has been found so far is contiguous: the basis and what the kernel makes of it.
    basis, images = kernel.new_empty(most, n), kernel.new_empty(most, n)
    vectors = torch.linalg.qr(_random_vectors(kernel, BLOCK))[0].T
    for size in range(BLOCK, last + 1, BLOCK):
        basis[size - BLOCK : size] = vectors
        images[size - BLOCK : size] = vectors @ kernel
        space, mapped = basis[:size], images[:size]
        if size >= look_at:
            pairs = _converged_pairs(kernel, space, mapped, count)
            if pairs is not None:
                return None if _misses_some(kernel, *pairs) else pairs
            if size == last:
                return None
            look_at = min(int(GROWTH * size), last)
        vectors = mapped[-BLOCK:]
        # Once leaves what rounding makes of a steep spectrum.
        for _ in range(2):
            vectors = vectors - (vectors @ space.T) @ space
        vectors = torch.linalg.qr(vectors.T)[0].T
    return None


def _random_vectors(kernel: Tensor, count: int) -> Tensor:
    """Fixed pseudo-random columns, ``(n, count)``."""
    generator = torch.Generator().manual_seed(kernel.shape[0])
    return torch.randn(kernel.shape[0], count, generator=generator, dtype=kernel.dtype).to(kernel.device)


def _converged_pairs(kernel: Tensor, space: Tensor, mapped: Tensor, count: int) -> tuple[Tensor, Tensor] | None:
    """Rayleigh-Ritz: the leading pairs of the kernel within a space, if all of them are accurate.

    Args:
        kernel: ``(n, n)``.
        space: Orthonormal basis, ``(size, n)``.
        mapped: What the kernel makes of it, ``(size, n)``.
        count: How many pairs.
    """
    projected = space @ mapped.T
    values, rotation = _dense(0.5 * (projected + projected.T), count)
    vectors = space.T @ rotation
    residuals = (mapped.T @ rotation - vectors * values).norm(dim=0)
    # No pair can get better than rounding lets it.
    accurate = (residuals <= (TOLERANCE * values).clamp_min(_rounding_error(kernel, values))).all()
    # A space that the kernel maps into itself cannot grow, and what is added to it then need not be new.
    overlaps = vectors.T @ vectors - torch.eye(count, dtype=kernel.dtype, device=kernel.device)
    return (values, vectors) if bool(accurate & (overlaps.abs().max() <= TOLERANCE)) else None


def _misses_some(kernel: Tensor, values: Tensor, vectors: Tensor) -> bool:
    """Whether something larger than the smallest of the pairs is left beside them.

    That happens where an eigenvalue is repeated more than ``BLOCK`` times: as many copies satisfy the Krylov space.
    Power iterations beside the pairs bring one of the others to light.
    """

    def beside(vector: Tensor) -> Tensor:
        return vector - vectors @ (vectors.T @ vector)

    probe = beside(_random_vectors(kernel, 1))
    for _ in range(4):
        probe = beside(kernel @ (probe / probe.norm().clamp_min(torch.finfo(kernel.dtype).tiny)))
    return bool(probe.norm() > (1 + 2 * TOLERANCE) * values[-1] + _rounding_error(kernel, values))


def _rounding_error(kernel: Tensor, values: Tensor) -> Tensor:
    """That of the kernel's largest eigenvalue, the first of ``values``."""
    return kernel.shape[0] * torch.finfo(kernel.dtype).eps * values[0]
