"""Fourier errors against analytic signals and a DFT by explicit exponentials."""

from __future__ import annotations

import cmath
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from iga_nerfstudio.evaluation import spectra as spectra_module
from iga_nerfstudio.evaluation.spectra import (
    bandwidth,
    dominant_frequencies,
    log_spectrum,
    radial_energy,
    relative_dft_error,
)

RATE = 200.0
TIMES = torch.arange(400, dtype=torch.float64) / RATE  # two seconds: bins are 0.5 Hz apart


def sine(frequency: float, amplitude: float = 1.0, phase: float = 0.0) -> torch.Tensor:
    return amplitude * torch.sin(2 * math.pi * frequency * TIMES + phase)


def naive_dft(signal: list[float], k: int) -> complex:
    n = len(signal)
    return sum(value * cmath.exp(-2j * math.pi * k * i / n) for i, value in enumerate(signal))


def naive_dft2(image: np.ndarray) -> np.ndarray:
    """Orthonormal, by one exponential per pixel and frequency."""
    height, width = image.shape
    rows, columns = (np.exp(-2j * np.pi * np.outer(np.arange(n), np.arange(n)) / n) for n in (height, width))
    return np.einsum("ui,ij,jv->uv", rows, image, columns) / math.sqrt(height * width)


def test_amplitude_errors_of_sines_are_their_relative_errors():
    truth = sine(5) + sine(20, 0.5) + sine(60, 0.1, phase=1.0) + 3.0
    prediction = sine(5, 0.9) + sine(20, 0.6) + 7.0
    found = relative_dft_error(prediction, truth, [60, 5, 20], RATE)
    assert list(found) == [60, 5, 20]
    assert found == pytest.approx({5: 0.1, 20: 0.2, 60: 1.0}, abs=1e-9)


def test_a_phase_error_counts():
    found = relative_dft_error(sine(20, phase=0.3), sine(20), [20], RATE)
    assert found[20] == pytest.approx(2 * math.sin(0.15), abs=1e-9)


def test_equal_signals_have_no_error():
    truth = sine(5) + sine(30)
    assert relative_dft_error(truth, truth, [5, 30], RATE) == {5: 0.0, 30: 0.0}


@settings(max_examples=40, deadline=None)
@given(n=st.integers(4, 33), seed=st.integers(0, 10**6), rate=st.floats(0.1, 1e4))
def test_every_bin_against_explicit_exponentials(n, seed, rate):
    generator = torch.Generator().manual_seed(seed)
    truth, prediction = (torch.randn(n, generator=generator, dtype=torch.float64) for _ in range(2))
    # A little off the bins, towards both sides, but never beyond Nyquist.
    asked = {k: min((k + (0.3 if k % 2 else -0.3)) * rate / n, rate / 2) for k in range(1, n // 2 + 1)}
    found = relative_dft_error(prediction, truth, list(asked.values()), rate)
    for k, frequency in asked.items():
        f, g = naive_dft(truth.tolist(), k), naive_dft(prediction.tolist(), k)
        assert found[frequency] == pytest.approx(abs(f - g) / abs(f), rel=1e-8)


def test_leakage_between_bins():
    """A frequency between bins is read at its neighbour, where a scaled signal still errs by its scale."""
    truth = sine(10.1)
    assert relative_dft_error(0.7 * truth, truth, [10.1], RATE)[10.1] == pytest.approx(0.3, abs=1e-9)


def test_leakage_carries_errors_to_other_frequencies():
    """A missing tone harms no other one on the bins, but one between bins does."""
    on_bins = relative_dft_error(sine(10), sine(10) + sine(12), [10, 12], RATE)
    assert on_bins == pytest.approx({10: 0.0, 12: 1.0}, abs=1e-9)
    between = relative_dft_error(sine(10), sine(10) + sine(12.2), [10, 12.2], RATE)
    assert 0.01 < between[10] < 0.5


def test_halfway_between_bins_takes_the_lower():
    truth = sine(10) + sine(10.5, 0.5)
    assert relative_dft_error(sine(10.5, 0.5), truth, [10.25], RATE)[10.25] == pytest.approx(1.0)
    assert relative_dft_error(sine(10.5, 0.5), truth, [10.26], RATE)[10.26] == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("n", [8, 9])
def test_half_the_sample_rate_is_the_last_bin(n):
    truth = torch.randn(n, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    last = naive_dft(truth.tolist(), n // 2)
    rest = truth - torch.tensor(
        [(last * cmath.exp(2j * math.pi * (n // 2) * i / n)).real * (1 if n % 2 == 0 else 2) / n for i in range(n)]
    )
    assert relative_dft_error(rest, truth, [0.5], 1.0)[0.5] == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(
    ("frequencies", "message"),
    [
        ([0.0], "Got a frequency of 0.0"),
        ([-5.0], "above 0 and up to 100.0"),
        ([100.5], "Got a frequency of 100.5"),
        ([float("nan")], "Got a frequency of nan"),
        ([0.2], "falls on bin 0, the mean; bins are 0.5 apart"),
        ([5.0, 20.0, 5.1], "5.0 and 5.1 fall on the same bin"),
        ([7.0], "no energy at 7.0"),
    ],
)
def test_frequencies_without_a_relative_error(frequencies, message):
    truth = sine(5) + sine(20)
    with pytest.raises(ValueError, match=message):
        relative_dft_error(truth, truth, frequencies, RATE)


def test_rounding_is_no_energy():
    for dtype in (torch.float64, torch.float32):
        truth = sine(20).to(dtype)
        with pytest.raises(ValueError, match="no energy at 7"):
            relative_dft_error(truth, truth, [7], RATE)
    faint = sine(20) + sine(7, 1e-8)
    assert relative_dft_error(sine(20), faint, [7], RATE)[7] == pytest.approx(1.0, abs=1e-4)
    with pytest.raises(ValueError, match="no energy"):
        relative_dft_error(sine(20), sine(20) + sine(7, 1e-10), [7], RATE)
    with pytest.raises(ValueError, match="no energy"):
        relative_dft_error(sine(20), torch.zeros(400), [7], RATE)


def test_signals_that_are_no_samples():
    good = sine(5)
    with pytest.raises(ValueError, match="differ in shape"):
        relative_dft_error(good[1:], good, [5], RATE)
    for bad in (good[:, None], good[:1], good.long(), torch.tensor(1.0)):
        with pytest.raises(ValueError, match="at least two floating samples"):
            relative_dft_error(bad, bad, [5], RATE)
    with pytest.raises(ValueError, match="not finite"):
        relative_dft_error(good, good / 0, [5], RATE)
    for rate in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="sample_rate must be positive"):
            relative_dft_error(good, good, [5], rate)


def test_a_diverged_prediction_shows():
    assert not math.isfinite(relative_dft_error(sine(5) / 0, sine(5), [5], RATE)[5])


def test_gradients_are_not_needed():
    truth = sine(5)
    assert relative_dft_error((0.5 * truth).requires_grad_(), truth, [5], RATE)[5] == pytest.approx(0.5)


def test_bandwidth_is_where_that_share_of_the_energy_ends():
    # Cycles per two seconds; a window of Hann spreads each over three bins.
    truth = torch.stack([sine(20) + 4.0, 0.3 * sine(60)], 1)  # 92 % and 8 % of the energy
    assert [bandwidth(truth, share) for share in (0.5, 0.9, 0.95, 0.99)] == pytest.approx([40, 41, 120, 121], abs=1)
    assert bandwidth(truth.float() * 1e-20, 0.95) == bandwidth(truth, 0.95)
    assert bandwidth(torch.linspace(0, 1, 400)[:, None], 0.9) <= 2  # ends that differ are no detail
    for constant in (torch.zeros(5, 1), torch.full((2, 2), 0.7)):
        assert bandwidth(constant, 0.9) <= 1


def test_dominant_frequencies_are_the_strongest_ascending():
    truth = sine(60, 1.0) + sine(5, 0.5) + sine(20, 0.8) + sine(90, 0.2) + 100.0
    assert dominant_frequencies(truth, RATE, 3) == [5.0, 20.0, 60.0]
    assert dominant_frequencies(truth, RATE, 1) == [60.0]
    assert dominant_frequencies(truth.float(), RATE, 4) == [5.0, 20.0, 60.0, 90.0]


def test_peaks_are_local():
    """Leakage beside a strong tone is stronger than the second tone, but no peak."""
    truth = sine(20.2, 1.0) + sine(70, 0.05)
    assert dominant_frequencies(truth, RATE, 2) == [20.0, 70.0]


def test_peaks_at_both_ends_of_the_spectrum():
    truth = sine(0.5) + torch.cos(2 * math.pi * 100 * TIMES) + 50.0
    assert dominant_frequencies(truth, RATE, 2) == [0.5, 100.0]


def test_too_few_peaks():
    truth = (sine(5) + sine(20)).float()
    assert len(dominant_frequencies(truth, RATE, 3)) == 2
    assert dominant_frequencies(torch.ones(10), RATE, 1) == []
    with pytest.raises(ValueError, match="count must be positive, got 0"):
        dominant_frequencies(truth, RATE, 0)


def plane_wave(height: int, width: int, rows: int, columns: int, amplitude: float) -> np.ndarray:
    i, j = np.mgrid[:height, :width]
    return 0.4 + amplitude * np.cos(2 * np.pi * (rows * i / height + columns * j / width))


@pytest.mark.parametrize(("height", "width"), [(32, 48), (33, 21)])
def test_log_spectrum_of_a_plane_wave(height, width):
    spectrum = log_spectrum(plane_wave(height, width, 3, -5, 0.2))
    expected = math.log10(0.2 * math.sqrt(height * width) / 2)
    for sign in (1, -1):
        assert spectrum[height // 2 + 3 * sign, width // 2 - 5 * sign] == pytest.approx(expected, abs=1e-9)
    assert (spectrum > -9).sum() == 2
    assert spectrum.min() == -10  # the mean, and whatever else is rounding
    assert spectrum[height // 2, width // 2] == -10


@settings(max_examples=25, deadline=None)
@given(height=st.integers(1, 12), width=st.integers(1, 12), seed=st.integers(0, 10**6))
def test_log_spectrum_against_explicit_exponentials(height, width, seed):
    image = np.random.default_rng(seed).random((height, width)).astype(np.float32)
    naive = np.abs(naive_dft2(image.astype(np.float64)))
    naive[0, 0] = 0
    found = np.roll(10 ** log_spectrum(image), (-(height // 2), -(width // 2)), axis=(0, 1))
    np.testing.assert_allclose(found, naive, atol=1e-8)


@settings(max_examples=25, deadline=None)
@given(height=st.integers(1, 14), width=st.integers(6, 15), num_bands=st.integers(1, 3), seed=st.integers(0, 10**6))
def test_radial_energy_against_a_loop(height, width, num_bands, seed):
    image = np.random.default_rng(seed).normal(size=(height, width))
    spectrum = np.abs(naive_dft2(image)) ** 2
    rings: list[list[float]] = [[] for _ in range(num_bands)]
    for u in range(height):
        for v in range(width):
            # Signed frequencies; in integers times (height * width), so that edges are exact.
            du, dv = (u if 2 * u < height else u - height) * width, (v if 2 * v < width else v - width) * height
            squared, unit = du**2 + dv**2, (height * width) ** 2
            for band in range(num_bands):
                if band**2 * unit < squared * 4 * num_bands**2 <= (band + 1) ** 2 * unit:
                    rings[band].append(spectrum[u, v])
    centres, energies = radial_energy(image, num_bands)
    np.testing.assert_allclose(centres, [(band + 0.5) * 0.5 / num_bands for band in range(num_bands)])
    np.testing.assert_allclose(energies, [np.mean(ring) for ring in rings], rtol=1e-9)


def test_white_noise_has_its_variance_in_every_ring():
    noise = 0.3 * np.random.default_rng(0).normal(size=(256, 200)) + 5.0
    centres, energies = radial_energy(noise)
    assert centres.shape == energies.shape == (32,)
    np.testing.assert_allclose(energies[8:], 0.09, rtol=0.2)  # some 300 independent magnitudes and more
    assert energies.mean() == pytest.approx(0.09, rel=0.05)


def test_a_plane_wave_is_in_one_ring():
    centres, energies = radial_energy(plane_wave(64, 64, 6, 8, 0.2), num_bands=16)
    ring = int(energies.argmax())
    assert abs(centres[ring] - 10.0 / 64) <= 0.5 / 32
    assert np.delete(energies, ring).max() < 1e-20


@pytest.mark.parametrize("side", [64, 65, 71])
def test_no_ring_is_empty(side):
    image = np.random.default_rng(1).random((side, 3))
    assert np.isfinite(radial_energy(image, 32)[1]).all()


@pytest.mark.parametrize(("height", "width"), [(12, 12), (13, 9), (7, 20), (1, 8)])
def test_a_spectrum_over_squares_holds_their_energy(height, width):
    image = np.random.default_rng(2).random((height, width))
    energies = 10 ** (2 * log_spectrum(image))
    expected = [[energies[i : i + 3, j : j + 3].mean() for j in range(0, width, 3)] for i in range(0, height, 3)]
    np.testing.assert_allclose(10 ** (2 * log_spectrum(image, side=3)), expected, rtol=1e-9)


@pytest.mark.parametrize(("height", "width"), [(12, 12), (13, 9), (9, 14)])
@pytest.mark.parametrize("side", [1, 2, 5])
def test_strips_change_nothing(monkeypatch, height, width, side):
    image = np.random.default_rng(2).random((height, width)).astype(np.float32)
    spectrum, (_, energy) = log_spectrum(image, side), radial_energy(image, 4)
    monkeypatch.setattr(spectra_module, "_VALUES_AT_ONCE", 2 * width)
    np.testing.assert_allclose(log_spectrum(image, side), spectrum, atol=1e-10)
    np.testing.assert_allclose(radial_energy(image, 4)[1], energy, rtol=1e-12)


def test_images_without_a_spectrum():
    for bad in (np.zeros((4, 4, 3)), np.zeros(4), np.zeros((0, 4))):
        with pytest.raises(ValueError, match="Need one image channel"):
            log_spectrum(bad)
        with pytest.raises(ValueError, match="Need one image channel"):
            radial_energy(bad)
    with pytest.raises(ValueError, match=r"32 rings do not fit an image of 63 x 20 pixels\. .* at most 31"):
        radial_energy(np.zeros((63, 20)))
    with pytest.raises(ValueError, match="0 rings"):
        radial_energy(np.zeros((63, 20)), 0)
