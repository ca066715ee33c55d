"""Eigenpairs and the low-rank transform against the full decomposition and the dense matrix of the paper."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from iga_nerfstudio import DegenerateKernelError, SpectralTransform, leading_eigenpairs
from iga_nerfstudio.adjustment import eigen


def kernel_with(spectrum: Tensor, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    n = spectrum.shape[0]
    basis, _ = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64))
    kernel = (basis * spectrum) @ basis.T
    return 0.5 * (kernel + kernel.T)


def dense_transform(kernel: Tensor, start: int, end: int, rule: str) -> Tensor:
    """S = sum_i (g_i / lambda_i) v_i v_i^T over the whole spectrum (paper Eq. 5 and Sec. 3.4)."""
    values, vectors = torch.linalg.eigh(kernel)
    values, vectors = values.flip(0), vectors.flip(1)
    factors = torch.ones_like(values)
    target = values[end] if rule == "adam" else values[start - 1]
    factors[start - 1 : end] = target / values[start - 1 : end]
    return (vectors * factors) @ vectors.T


SPECTRA = {
    "steep": 10.0 ** torch.linspace(3, -6, 200, dtype=torch.float64),
    "flat": torch.linspace(1.2, 1.0, 200, dtype=torch.float64),
    "degenerate": torch.cat([torch.full((5,), 9.0), torch.full((30,), 4.0), torch.full((165,), 1.0)]).double(),
    "rank deficient": torch.cat([torch.linspace(50, 1, 60), torch.zeros(140)]).double(),
}


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize(("start", "end"), [(1, 1), (1, 20), (5, 20), (20, 20), (1, 40)])
@pytest.mark.parametrize("rule", ["adam", "sgd"])
def test_apply_matches_the_dense_matrix(name, start, end, rule):
    """Both from one decomposition: a range that cuts through repeated eigenvalues depends on the basis chosen there."""
    kernel = kernel_with(SPECTRA[name])
    values, vectors = torch.linalg.eigh(kernel)
    values, vectors = values.flip(0)[: end + 1], vectors.flip(1)[:, : end + 1]
    transform = SpectralTransform.from_eigenpairs(values, vectors, start=start, end=end, rule=rule)
    residual = torch.randn(200, 4, 3, dtype=torch.float64)
    expected = (dense_transform(kernel, start, end, rule) @ residual.flatten(1)).reshape(residual.shape)
    assert ((transform.apply(residual) - expected).norm() / expected.norm()).item() < 1e-5
    assert torch.allclose(transform.dense() @ residual.flatten(1), transform.apply(residual).flatten(1))


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize(("start", "end"), [(1, 1), (1, 20), (5, 20), (20, 20), (1, 40)])
@pytest.mark.parametrize("rule", ["adam", "sgd"])
def test_float32_apply_matches_the_dense_matrix_of_its_eigenpairs(name, start, end, rule):
    """A range that cuts through repeated eigenvalues has many right transforms; each is right for its eigenpairs."""
    values, vectors = leading_eigenpairs(kernel_with(SPECTRA[name]).float(), end + 1, "dense")
    exact_values, exact_vectors = values.double(), vectors.double()
    target = exact_values[end] if rule == "adam" else exact_values[start - 1]
    balanced = slice(start - 1, end)
    dense = (
        torch.eye(200, dtype=torch.float64)
        + (exact_vectors[:, balanced] * (target / exact_values[balanced] - 1)) @ exact_vectors[:, balanced].T
    )
    residual = torch.randn(200, 12)
    applied = SpectralTransform.from_eigenpairs(values, vectors, start=start, end=end, rule=rule).apply(residual)
    expected = dense @ residual.double()
    assert ((applied - expected).norm() / expected.norm()).item() < 1e-5


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("method", ["auto", "subspace"])
@pytest.mark.parametrize("on_gpu", [False, True])
def test_iterated_eigenpairs_give_the_same_transform(name, dtype, method, on_gpu, monkeypatch):
    """Bases of repeated eigenvalues are arbitrary, so what is compared is S and the eigenvalues."""
    monkeypatch.setattr(eigen, "_on_gpu", lambda tensor: on_gpu)
    kernel = kernel_with(SPECTRA[name])
    values, vectors = leading_eigenpairs(kernel.to(dtype), 21, method)
    exact = leading_eigenpairs(kernel, 21, "dense")[0]
    assert ((values - exact).abs() / exact).max().item() < 1e-4
    assert torch.allclose(vectors.T @ vectors, torch.eye(21, dtype=dtype), atol=1e-4)
    transform = SpectralTransform.from_eigenpairs(values, vectors, end=20).dense()
    expected = dense_transform(kernel, 1, 20, "adam")
    assert torch.linalg.matrix_norm(transform.double() - expected, 2).item() < 5e-3


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(2, 40),
    seed=st.integers(0, 10_000),
    decay=st.floats(0.0, 4.0),
    data=st.data(),
    rule=st.sampled_from(["adam", "sgd"]),
)
def test_any_kernel_and_range(n, seed, decay, data, rule):
    kernel = kernel_with(10.0 ** -torch.linspace(0, decay, n, dtype=torch.float64), seed)
    end = data.draw(st.integers(1, n - 1))
    start = data.draw(st.integers(1, end))
    values, vectors = leading_eigenpairs(kernel, end + 1)
    transform = SpectralTransform.from_eigenpairs(values, vectors, start=start, end=end, rule=rule)
    expected = dense_transform(kernel, start, end, rule)
    assert torch.allclose(transform.dense(), expected, rtol=1e-6, atol=1e-8)


def test_balanced_kernel_has_the_promised_spectrum():
    """S K has end - start + 2 equal leading eigenvalues under Adam's rule (Sec. 3.4)."""
    kernel = kernel_with(SPECTRA["steep"])
    transform = SpectralTransform.from_eigenpairs(*leading_eigenpairs(kernel, 11), end=10)
    balanced = torch.linalg.eigvals(transform.dense() @ kernel).real.sort(descending=True).values
    assert torch.allclose(balanced[:11], SPECTRA["steep"][10].expand(11), rtol=1e-6)
    assert torch.allclose(balanced[11:60], SPECTRA["steep"][11:60], rtol=1e-6)


@pytest.mark.parametrize("rule", ["adam", "sgd"])
@pytest.mark.parametrize("power", [0.25, 0.5, 1.0])
def test_a_power_brings_eigenvalues_a_part_of_the_way(rule, power):
    """S K has the eigenvalues lambda^(1 - power) g^power on the balanced range and its own elsewhere."""
    kernel = kernel_with(SPECTRA["steep"])
    values, vectors = leading_eigenpairs(kernel, 20, "dense")
    transform = SpectralTransform.from_eigenpairs(values, vectors, end=12, start=3, rule=rule, power=power)
    target = values[12] if rule == "adam" else values[2]
    expected = torch.linalg.eigvalsh(kernel).flip(0)
    expected[2:12] = expected[2:12] ** (1 - power) * target**power
    # S and K have the same eigenvectors, so their product is symmetric.
    found = torch.linalg.eigvalsh(transform.dense() @ kernel).flip(0)
    assert torch.allclose(found, expected.sort(descending=True).values, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("copies", [8, 9, 40])
@pytest.mark.parametrize("on_gpu", [False, True])
def test_a_repeated_eigenvalue_is_found_as_often_as_it_is_there(copies, on_gpu, monkeypatch):
    """A Krylov space of blocks of 8 holds 8 copies and is content with them and with smaller eigenvalues."""
    monkeypatch.setattr(eigen, "_on_gpu", lambda tensor: on_gpu)
    rest = 10.0 ** -torch.linspace(0, 4, 300 - copies, dtype=torch.float64)
    kernel = kernel_with(torch.cat([torch.full((copies,), 5.0, dtype=torch.float64), rest]))
    for dtype in (torch.float32, torch.float64):
        values, vectors = leading_eigenpairs(kernel.to(dtype), 20, "subspace")
        assert torch.allclose(values.double(), torch.linalg.eigvalsh(kernel).flip(0)[:20], rtol=1e-4)
        assert torch.allclose(vectors.T @ vectors, torch.eye(20, dtype=dtype), atol=1e-4)


@pytest.mark.parametrize(("n", "count"), [(256, 8), (384, 21), (1024, 26)])
@pytest.mark.parametrize("on_gpu", [False, True])
def test_a_few_pairs_are_found_without_a_full_decomposition(monkeypatch, n, count, on_gpu):
    monkeypatch.setattr(eigen, "_on_gpu", lambda tensor: on_gpu)
    sizes = []
    eigh = torch.linalg.eigh
    monkeypatch.setattr(torch.linalg, "eigh", lambda matrix: sizes.append(len(matrix)) or eigh(matrix))
    leading_eigenpairs(kernel_with(10.0 ** -torch.linspace(0, 6, n, dtype=torch.float64)).float(), count)
    assert sizes
    assert max(sizes) <= 0.5 * n


@pytest.mark.parametrize("rank", [3, 8, 40])
def test_on_a_gpu_a_kernel_of_low_rank_needs_no_full_decomposition(monkeypatch, rank):
    """Blocks are then of lower rank than they are wide; what stands for rounding errors is left out of S."""
    monkeypatch.setattr(eigen, "_on_gpu", lambda tensor: True)
    monkeypatch.setattr(eigen, "_dense", lambda matrix, count, dense=eigen._dense: _small_only(matrix, count, dense))
    spectrum = torch.zeros(400, dtype=torch.float64)
    spectrum[:rank] = 10.0 ** torch.linspace(3, 0, rank, dtype=torch.float64)
    kernel = kernel_with(spectrum)
    transform = SpectralTransform.from_eigenpairs(*leading_eigenpairs(kernel.float(), 21), end=20).dense().double()
    end = min(20, rank - 1)
    assert torch.linalg.matrix_norm(transform - dense_transform(kernel, 1, end, "adam"), 2).item() < 5e-3


def _small_only(matrix, count, dense):
    assert len(matrix) <= 200
    return dense(matrix, count)


def test_end_zero_is_the_identity():
    residual = torch.randn(8, 3)
    transform = SpectralTransform.from_eigenpairs(torch.ones(1), torch.ones(8, 1), end=0)
    assert transform.apply(residual) is residual


def test_half_precision_residuals_keep_their_dtype():
    values, vectors = leading_eigenpairs(kernel_with(SPECTRA["steep"]).float(), 6)
    transform = SpectralTransform.from_eigenpairs(values, vectors, end=5)
    residual = torch.randn(200, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = transform.apply(residual.bfloat16())
    assert half.dtype == torch.bfloat16
    assert torch.allclose(half.float(), transform.apply(residual), atol=0.05)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"end": 3, "start": 4}, "end must not be smaller than start"),
        ({"end": -1}, "must not be negative"),
        ({"end": 3, "start": 0}, "counts eigenvalues from 1"),
        ({"end": 3, "rule": "adamw"}, "Unknown balance rule 'adamw'"),
        ({"end": 8}, "needs 9 leading eigenpairs, got 8"),
    ],
)
def test_bad_ranges_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        SpectralTransform.from_eigenpairs(torch.arange(8.0, 0.0, -1), torch.eye(8), **arguments)


@pytest.mark.parametrize("power", [0.0, -0.5, 1.5, float("nan")])
def test_a_power_that_is_no_share_is_refused(power):
    with pytest.raises(ValueError, match=r"power .* lies in"):
        SpectralTransform.from_eigenpairs(torch.tensor([2.0, 1.0]), torch.eye(2), end=1, power=power)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_spectrum_that_is_not_finite_is_refused(bad):
    values = torch.tensor([4.0, 3.0, 2.0, bad])
    with pytest.raises(DegenerateKernelError, match="not finite"):
        SpectralTransform.from_eigenpairs(values, torch.eye(8)[:, :4], end=3)


@pytest.mark.parametrize("noise", [0.0, -1.0, 1e-7])
@pytest.mark.parametrize(("rule", "balanced", "target"), [("adam", 2, 2.0), ("sgd", 3, 4.0)])
def test_eigenvalues_that_are_rounding_errors_are_left_out(noise, rule, balanced, target):
    values = torch.tensor([4.0, 3.0, 2.0, noise, noise])
    transform = SpectralTransform.from_eigenpairs(values, torch.eye(8)[:, :5], end=4, rule=rule)
    assert transform.rank == balanced
    assert transform.target == target
    shorter = SpectralTransform.from_eigenpairs(values, torch.eye(8)[:, :5], end=balanced, rule=rule)
    residual = torch.randn(8, 3)
    assert torch.equal(transform.apply(residual), shorter.apply(residual))


def test_the_rank_is_named_when_nothing_is_left_of_the_range():
    kernel = kernel_with(SPECTRA["rank deficient"]).float()
    pairs = leading_eigenpairs(kernel, 71, "dense")
    assert SpectralTransform.from_eigenpairs(*pairs, end=70).rank == 59
    with pytest.raises(DegenerateKernelError, match="numerical rank of 60"):
        SpectralTransform.from_eigenpairs(*pairs, end=70, start=60)


@pytest.mark.parametrize("count", [3, 10, 26, 40])
@pytest.mark.parametrize("n", [200, 300, 517])
def test_no_block_is_made_that_is_not_looked_at(count, n, monkeypatch):
    looked: list[int] = []
    grown: list[int] = []

    def never(_kernel, space, values, _rotation):
        looked.append(space.size)
        return values, torch.tensor([False, True])

    qr = torch.linalg.qr

    def counted(matrix):
        grown.append(1)
        return qr(matrix)

    monkeypatch.setattr(eigen, "_ritz_pairs", never)
    monkeypatch.setattr(torch.linalg, "qr", counted)
    space = eigen.begin_space(torch.eye(n), count, "subspace")
    if space is not None:
        assert eigen._lanczos(torch.eye(n), count, space, None) is None
        # The first one is given, and after the last look there is no other.
        assert looked[-1] // eigen.BLOCK * eigen.BLOCK == looked[-1]
        assert len(grown) == looked[-1] // eigen.BLOCK


def test_saturated_representatives_do_not_stop_the_solver():
    """Zero rows and denormal entries, as saturated outputs leave them, in many arrangements."""
    generator = torch.Generator().manual_seed(0)
    kernel = kernel_with(10.0 ** torch.linspace(3, -4, 256, dtype=torch.float64)).float()
    fade = torch.ones(256)
    fade[60:190] = 10.0 ** -torch.linspace(0, 44, 130)
    fade[190:] = 0
    kernel = kernel * fade[:, None] * fade
    exact = torch.linalg.eigvalsh(kernel.double()).flip(0)[:26]
    for _ in range(40):
        order = torch.randperm(256, generator=generator)
        values, _ = leading_eigenpairs(kernel[order][:, order], 26, "dense")
        assert torch.allclose(values.double(), exact, rtol=1e-4)


@pytest.mark.parametrize("method", ["dense", "subspace"])
def test_a_solver_that_gives_up_is_followed_by_float64(monkeypatch, caplog, method):
    """LAPACK's float32 eigh was seen to fail on a finite kernel in the middle of a training run."""
    kernel = kernel_with(SPECTRA["steep"])
    expected, _ = leading_eigenpairs(kernel, 6, "dense")
    eigh = torch.linalg.eigh

    def moody(matrix: Tensor):
        if matrix.dtype == torch.float32:
            raise torch.linalg.LinAlgError("failed to converge")
        return eigh(matrix)

    monkeypatch.setattr(torch.linalg, "eigh", moody)
    values, vectors = leading_eigenpairs(kernel.float(), 6, method)
    assert values.dtype == vectors.dtype == torch.float32
    assert torch.allclose(values.double(), expected, rtol=1e-4)
    assert "eigensolver failed" in caplog.text


def test_bad_kernels_and_counts_are_refused():
    for kernel, count, message in (
        (torch.ones(3, 4), 1, "square"),
        (torch.eye(3), 4, "count must lie in"),
        (torch.eye(3), 0, "count must lie in"),
        (torch.full((3, 3), torch.nan), 1, "NaN or infinite"),
    ):
        with pytest.raises(ValueError, match=message):
            leading_eigenpairs(kernel, count)
    with pytest.raises(ValueError, match="Unknown eigen method"):
        leading_eigenpairs(torch.eye(3), 1, "lanczos")
    with pytest.raises(ValueError, match="first axis must run over the groups"):
        SpectralTransform.from_eigenpairs(torch.ones(3), torch.eye(8)[:, :3], end=2).apply(torch.ones(7, 3))


@pytest.mark.parametrize("rule", ["adam", "sgd"])
@pytest.mark.parametrize("floor", [0.0, 0.03, 0.5])
def test_no_direction_is_slowed_below_the_floor(rule, floor):
    kernel = kernel_with(SPECTRA["steep"])
    values, vectors = leading_eigenpairs(kernel, 61, "dense")
    transform = SpectralTransform.from_eigenpairs(values, vectors, end=60, start=2, rule=rule, floor=floor)
    target = values[60] if rule == "adam" else values[1]
    factors = torch.ones_like(values)
    factors[1:60] = (target / values[1:60]).clamp(min=floor)
    assert (factors == floor).any() == (rule == "adam" and floor > 0)
    expected = torch.eye(200, dtype=torch.float64) + (vectors * (factors - 1)) @ vectors.T
    assert torch.allclose(transform.dense(), expected, atol=1e-12)


@pytest.mark.parametrize("floor", [-0.1, 1.0, 2.0, float("nan")])
def test_a_floor_that_is_no_share_is_refused(floor):
    with pytest.raises(ValueError, match=r"lies in \[0, 1\)"):
        SpectralTransform.from_eigenpairs(torch.tensor([2.0, 1.0]), torch.eye(2), end=1, floor=floor)
