"""Leading eigenpairs of a symmetric positive semi-definite kernel: dense, or by block Lanczos.

A CPU pays for arithmetic, a GPU for every operation that it is told to begin. There the space grows by wider blocks,
what is small is decomposed on the host, and the space is begun without waiting for anything: see :func:`begin_space`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import get_args

import torch
from torch import Tensor

from iga_nerfstudio.adjustment.precision import full_precision
from iga_nerfstudio.adjustment.replay import Replay
from iga_nerfstudio.settings import EigenMethod

logger = logging.getLogger("iga_nerfstudio")

# Vectors that the Krylov space grows by at once. Fewer find more with as many vectors in all, but an eigenvalue
# that is repeated more often than this is not seen as often as it is there.
BLOCK, BLOCK_GPU = 8, 16
# The space is first looked at when it has this many vectors per pair, beyond one block, then each time it has grown by
# a third.
VECTORS_PER_PAIR, VECTORS_PER_PAIR_GPU = 3, 4
GROWTH = 4 / 3
# Where it may not grow any further: vectors per pair beyond some, and a share of the kernel's rows.
MOST_VECTORS_PER_PAIR, MORE_VECTORS, MOST_ROWS = 10, 64, 0.5
# Largest residual |K v - lambda v| / lambda of an accepted eigenpair. To first order it bounds the error of S_e.
TOLERANCE = 1e-3
# Share of the kernel's rows up to which the space's first size is faster than a full decomposition, on a CPU and on a
# GPU, and the smallest kernel for which it can be (measured on kernels of images, signals, shapes and NeRFs).
PAYS_UP_TO, PAYS_UP_TO_GPU, PAYS_FROM = 0.35, 0.5, 192
# Added to a block's Gram matrix, in units of its rounding error, each time that it is made orthonormal: a block may be
# of lower rank than it is wide.
SHIFTS = 16, 1, 1


class KernelNotFiniteError(ValueError):
    """The kernel holds NaN or infinite entries."""


class EigenSolverError(RuntimeError):
    """No solver found the eigenpairs of a kernel that is finite."""


@dataclass(frozen=True)
class KrylovSpace:
    """What block Lanczos has found of a kernel so far.

    Attributes:
        basis: Orthonormal rows, ``(most, n)``, the first ``size`` of them filled.
        images: What the kernel makes of them, likewise.
        size: Number of vectors.
        projected: The kernel within the space, ``(size, size)``.
    """

    basis: Tensor
    images: Tensor
    size: int
    projected: Tensor


def leading_eigenpairs(
    kernel: Tensor,
    count: int,
    method: EigenMethod = "auto",
    space: KrylovSpace | None = None,
    replay: Replay[tuple[Tensor, Tensor]] | None = None,
) -> tuple[Tensor, Tensor]:
    """The ``count`` largest eigenvalues of a kernel and their eigenvectors.

    Args:
        kernel: Symmetric positive semi-definite, ``(n, n)``, float32 or float64.
        count: How many pairs, ``1 <= count <= n``.
        method: ``"dense"`` decomposes the whole kernel. ``"subspace"`` grows a Krylov space by block Lanczos until
            every pair's relative residual is below 1e-3, and decomposes the whole kernel where that would take too
            large a space. ``"auto"`` does so where it pays: large n, few pairs.
        space: What :func:`begin_space` gave for the same arguments, where that was called before.
        replay: What repeats the first look at that space on a GPU, whose tensors must then be where they were before.

    Returns:
        Eigenvalues ``(count,)``, descending, and orthonormal eigenvectors ``(n, count)`` as columns, of the
        kernel's dtype. Signs of eigenvectors, and bases within repeated eigenvalues, are arbitrary, and so are vectors
        of eigenvalues that are nothing but rounding errors.

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
    with full_precision(kernel.device):
        space = space or begin_space(kernel, count, method)
        if space is not None:
            pairs = _lanczos(kernel, count, space, replay)
            if pairs is not None:
                return pairs
        if not torch.isfinite(kernel).all():
            raise KernelNotFiniteError("The kernel holds NaN or infinite entries.")
        return _dense(kernel, count)


def begin_space(kernel: Tensor, count: int, method: EigenMethod = "auto") -> KrylovSpace | None:
    """Grow the Krylov space to where it is first looked at, without waiting for a GPU.

    Args:
        kernel: As for :func:`leading_eigenpairs`, like the others.
        count: How many pairs are sought.
        method: How.

    Returns:
        The space, or None where the whole kernel is to be decomposed.
    """
    n, first = kernel.shape[0], VECTORS_PER_PAIR * count + BLOCK
    most = int(min(MOST_ROWS * n, MOST_VECTORS_PER_PAIR * count + MORE_VECTORS))
    pays = n >= PAYS_FROM and first <= (PAYS_UP_TO_GPU if _on_gpu(kernel) else PAYS_UP_TO) * n
    if method == "dense" or first > most or (method == "auto" and not pays):
        return None
    space = KrylovSpace(kernel.new_empty(most, n), kernel.new_empty(most, n), 0, kernel.new_empty(0, 0))
    with full_precision(kernel.device):
        return _grow(kernel, space, VECTORS_PER_PAIR_GPU * count if _on_gpu(kernel) else first)


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
    vectors = vectors.flip(1)[:, :count]
    # What a solver lacks of length 1 would be left of a residual from which they are subtracted.
    return values.flip(0)[:count] - shift, vectors / vectors.norm(dim=0)


def _lanczos(
    kernel: Tensor, count: int, space: KrylovSpace, replay: Replay[tuple[Tensor, Tensor]] | None
) -> tuple[Tensor, Tensor] | None:
    """Block Lanczos with full reorthogonalisation, from fixed pseudo-random vectors; None where it did not converge.

    Args:
        kernel: ``(n, n)``.
        count: How many pairs.
        space: What has been found so far.
        replay: What repeats the first look at it.
    """
    while True:
        # Not finite: neither is the kernel, or it has been exhausted before, so that what was added to the basis is
        # none. On the host: a GPU takes longer for so small a matrix.
        projected = space.projected.cpu()
        if torch.isfinite(projected).all():
            values, rotation = (part.to(kernel.device) for part in _dense(projected, count))
            look = partial(_ritz_pairs, kernel, space)
            if replay is None:
                vectors, verdict = look(values, rotation)
            else:
                vectors, verdict = replay(look, (values, rotation), constants=_place_of(kernel, space))
                vectors = vectors.clone()
            accurate, complete = verdict.tolist()
            if accurate:
                return (values, vectors) if complete else None
        grown, replay = _grow(kernel, space, int(GROWTH * space.size)), None
        if grown.size == space.size:
            return None
        space = grown


def _place_of(kernel: Tensor, space: KrylovSpace) -> tuple[int, ...]:
    return len(kernel), space.size, *(part.data_ptr() for part in (kernel, space.basis, space.images))


def _grow(kernel: Tensor, space: KrylovSpace, size: int) -> KrylovSpace:
    """The space with at least so many vectors, as far as there is room for whole blocks."""
    block = BLOCK_GPU if _on_gpu(kernel) else BLOCK
    size = min(-(-size // block), len(space.basis) // block) * block
    for end in range(space.size + block, size + 1, block):
        begin = end - block
        vectors = space.images[begin - block : begin] if begin else _random_vectors(kernel, block).T
        space.basis[begin:end] = vectors = _orthonormal(vectors, space.basis[:begin])
        # Rows, so that what has been found so far is contiguous.
        space.images[begin:end] = vectors @ kernel
    projected = space.basis[:size] @ space.images[:size].T
    return replace(space, size=size, projected=0.5 * (projected + projected.T))


def _on_gpu(tensor: Tensor) -> bool:
    return tensor.device.type == "cuda"


def _orthonormal(rows: Tensor, basis: Tensor) -> Tensor:
    """An orthonormal basis, as rows, of what some rows span beside a basis: once leaves what rounding makes of them.

    Householder's way is a launch per row on a GPU. There it is the Cholesky factor of the rows' Gram matrix, which
    leaves noise in place of what a block has of lower rank; that is made orthogonal the next times.
    """
    if not _on_gpu(rows):
        for _ in range(2):
            rows = _beside(rows, basis)
        return torch.linalg.qr(rows.T)[0].T
    for shift in SHIFTS:
        rows = _beside(rows, basis)
        gram = rows @ rows.T
        gram.diagonal().add_(gram.diagonal().sum(), alpha=shift * torch.finfo(rows.dtype).eps)
        rows = torch.linalg.solve_triangular(torch.linalg.cholesky_ex(gram).L, rows, upper=False)
    return rows


def _beside(rows: Tensor, basis: Tensor) -> Tensor:
    """What rows hold that an orthonormal basis, as rows, does not span."""
    return rows - (rows @ basis.T) @ basis if len(basis) else rows


def _random_vectors(kernel: Tensor, count: int) -> Tensor:
    """Fixed pseudo-random columns, ``(n, count)``."""
    # Kept for good on a GPU: a recorded graph reads them where they are.
    draw = _kept_randn if _on_gpu(kernel) else _randn
    return draw(kernel.shape[0], count, kernel.dtype, kernel.device)


def _randn(n: int, count: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(n)
    return torch.randn(n, count, generator=generator, dtype=dtype, device="cpu").to(device)


_kept_randn = cache(_randn)


def _ritz_pairs(kernel: Tensor, space: KrylovSpace, values: Tensor, rotation: Tensor) -> tuple[Tensor, Tensor]:
    """Rayleigh-Ritz: the leading eigenvectors of the kernel within a space, and whether they can be used.

    Args:
        kernel: ``(n, n)``.
        space: What has been found so far.
        values: Leading eigenvalues of the kernel within it, ``(k,)``.
        rotation: Their eigenvectors there, ``(size, k)``.

    Returns:
        Eigenvectors ``(n, k)``, and two truth values: whether every pair is accurate, and whether they are all that
        there are of their size.
    """
    basis, images = space.basis[: space.size], space.images[: space.size]
    vectors = basis.T @ rotation
    norms = vectors.norm(dim=0).clamp_min(TOLERANCE)
    residuals = (images.T @ rotation - vectors * values).norm(dim=0)
    vectors = vectors / norms
    # No pair can get better than rounding lets it.
    error = kernel.shape[0] * torch.finfo(kernel.dtype).eps * values[0]
    accurate = (residuals <= (TOLERANCE * values).clamp_min(error)).all()
    # A space that the kernel maps into itself cannot grow, and what is added to it then need not be new. That is no
    # matter where it stands for nothing but rounding errors.
    known = (values > error).to(values.dtype)
    overlaps = vectors.T @ vectors
    overlaps.diagonal().sub_(1)
    overlaps = (overlaps * known * known[:, None]).abs().max()
    beside = _largest_beside(kernel, vectors)
    complete = beside <= (1 + 2 * TOLERANCE) * values[-1] + error
    return vectors, torch.stack([accurate & (overlaps <= TOLERANCE), complete])


def _largest_beside(kernel: Tensor, vectors: Tensor) -> Tensor:
    """About the kernel's largest eigenvalue beside the pairs: too small a one rather than too large.

    Where an eigenvalue is repeated more than ``BLOCK`` times the Krylov space is content with as many copies. Power
    iterations beside the pairs bring one of the others to light.
    """

    def beside(vector: Tensor) -> Tensor:
        return vector - vectors @ (vectors.T @ vector)

    probe = beside(_random_vectors(kernel, 1))
    for _ in range(4):
        probe = beside(kernel @ (probe / probe.norm().clamp_min(torch.finfo(kernel.dtype).tiny)))
    return probe.norm()
