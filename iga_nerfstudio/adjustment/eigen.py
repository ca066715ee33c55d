"""Leading eigenpairs of a symmetric positive semi-definite kernel: dense, or by block power iteration."""

from __future__ import annotations

import logging
from typing import Literal, get_args

import torch
from torch import Tensor

from iga_nerfstudio.adjustment.precision import full_precision

logger = logging.getLogger("iga_nerfstudio")

EigenMethod = Literal["auto", "dense", "subspace"]

# Extra columns in the iterated block. Convergence of eigenvalue `count` goes with the gap to eigenvalue `block`.
OVERSAMPLING = 12
# Power iterations between two convergence checks, and how many checks before giving up. Each check reads one number
# back to the host.
ITERATIONS_PER_CHECK = 3
MAX_CHECKS = 6
# Largest residual |K v - lambda v| / lambda of an accepted eigenpair. To first order it bounds the error of S_e.
TOLERANCE = 1e-3
# Sizes of kernel, in blocks and in rows, from which iterating is faster than a full decomposition (measured on a CPU,
# kernels of NeRF, PE and SIREN): either many blocks, or some blocks and many rows.
MANY_BLOCKS, SOME_BLOCKS, MANY_ROWS = 8, 4, 320


class KernelNotFiniteError(ValueError):
    """The kernel holds NaN or infinite entries."""


class EigenSolverError(RuntimeError):
    """No solver found the eigenpairs of a kernel that is finite."""


def leading_eigenpairs(
    kernel: Tensor, count: int, method: EigenMethod = "auto", start: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The ``count`` largest eigenvalues of a kernel and their eigenvectors.

    Args:
        kernel: Symmetric positive semi-definite, ``(n, n)``, float32 or float64.
        count: How many pairs, ``1 <= count <= n``.
        method: ``"dense"`` decomposes the whole kernel. ``"subspace"`` iterates a block of ``count`` and some
            vectors until every pair's relative residual is below 1e-3, and decomposes the whole kernel where that
            is not reached (flat spectra). ``"auto"`` iterates where it pays: large n, few pairs.
        start: Basis to start iterating from, ``(n, any)``, for instance the eigenvectors of the step before. A
            fixed pseudo-random one if missing, so results do not depend on the global random state.

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
    block = count + OVERSAMPLING
    pays = n >= MANY_BLOCKS * block or (n >= MANY_ROWS and n >= SOME_BLOCKS * block)
    iterate = method == "subspace" or (method == "auto" and pays)
    with full_precision(kernel.device):
        if iterate and block < n:
            pairs = _subspace(kernel, count, _starting_block(kernel, block, start))
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


def _starting_block(kernel: Tensor, block: int, start: Tensor | None) -> Tensor:
    """An ``(n, block)`` basis: the given one, filled up or cut, or fixed pseudo-random numbers."""
    n = kernel.shape[0]
    if start is not None and start.shape[0] != n:
        raise ValueError(f"start has shape {tuple(start.shape)}, but the kernel has {n} rows.")
    known = kernel.new_empty(n, 0) if start is None else start.to(kernel)[:, :block]
    generator = torch.Generator().manual_seed(n)
    fill = torch.randn(n, block - known.shape[1], generator=generator, dtype=kernel.dtype).to(kernel.device)
    return torch.cat([known, fill], dim=1)


def _subspace(kernel: Tensor, count: int, basis: Tensor) -> tuple[Tensor, Tensor] | None:
    """Block power iteration with Rayleigh-Ritz extraction; None where it did not converge."""
    for _ in range(MAX_CHECKS):
        for _ in range(ITERATIONS_PER_CHECK):
            basis, _ = torch.linalg.qr(kernel @ basis)
        image = kernel @ basis
        projected = basis.T @ image
        values, rotation = _dense(0.5 * (projected + projected.T), len(projected))
        values = values[:count]
        leading = rotation[:, :count]
        vectors, images = basis @ leading, image @ leading
        residuals = (images - vectors * values).norm(dim=0)
        # Below the rounding error of the largest eigenvalue no pair can get better.
        floor = kernel.shape[0] * torch.finfo(kernel.dtype).eps * values[0]
        if bool((residuals <= (TOLERANCE * values).clamp_min(floor)).all()):
            return values.clone(), vectors
        basis = basis @ rotation
    return None
