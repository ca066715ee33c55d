"""Where in the Fourier domain a reconstruction errs.

Signals are taken as one period each, without a window: a frequency between two bins, and borders of an image that do
not continue into each other, leak into the bins around.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import scipy.fft
import torch
from torch import Tensor

from iga_nerfstudio.evaluation.squares import means_over_squares

# A DFT magnitude this small beside the largest one is rounding, not signal.
NO_ENERGY = 1e-9
# Smallest magnitude a log spectrum shows. Rounding a picture to 8 bits leaves about 1e-3 per bin.
LOG_FLOOR = 1e-10
# Values of an image or spectrum that are worked on at once.
_VALUES_AT_ONCE = 1 << 20


def relative_dft_error(
    prediction: Tensor, truth: Tensor, frequencies: Sequence[float], sample_rate: float
) -> dict[float, float]:
    """Relative error of single frequencies, Delta_k = |F f(k) - F f_theta(k)| / |F f(k)| (paper Eq. 6).

    The transform is one of the whole signal in float64. Each frequency is read at the nearest bin, a multiple of
    ``sample_rate / N``; halfway between two, at the lower.

    Args:
        prediction: ``(N,)``, real, evenly spaced samples of f_theta.
        truth: ``(N,)``, real, the same samples of f.
        frequencies: In cycles per unit of the axis (Hz for seconds), above 0 and up to half the sample rate.
        sample_rate: Samples per unit of the axis.

    Returns:
        Delta_k by the frequency asked for.

    Raises:
        ValueError: If the signals are no such samples, a frequency is out of range or nearest to the mean (bin 0),
            two frequencies share a bin, or the truth has no energy at one: less than 1e-9 (or, where that is more,
            the resolution of its dtype) of its largest magnitude.
    """
    if prediction.shape != truth.shape:
        raise ValueError(
            f"The prediction, {tuple(prediction.shape)}, and the truth, {tuple(truth.shape)}, differ in shape."
        )
    spectrum = _spectrum(truth, sample_rate)
    bins = _distinct_bins(frequencies, truth.shape[0], sample_rate)
    for frequency, index in bins.items():
        if spectrum[index].abs() <= _energy_floor(spectrum, truth.dtype):
            raise ValueError(
                f"The truth has no energy at {frequency} cycles per unit, so that no relative error exists. "
                "Ask for a frequency it contains."
            )
    errors = spectrum - torch.fft.rfft(prediction.detach().double())
    return {frequency: float(errors[k].abs() / spectrum[k].abs()) for frequency, k in bins.items()}


def bandwidth(signal: Tensor, share: float) -> float:
    """The frequency below which a share of a signal's energy lies, its mean excluded.

    Under a Hann window, unlike the others here: two ends that do not continue into each other are no detail.

    Args:
        signal: ``(N, C)``, real, evenly spaced samples; their channels' energies are added.
        share: In (0, 1).

    Returns:
        In cycles per signal, N samples; 0 for one that is constant.
    """
    values = signal.detach().double()
    window = torch.hann_window(len(values) + 2, periodic=False, dtype=values.dtype)[1:-1]
    energy = torch.fft.rfft((values - values.mean(0)) * window[:, None], dim=0).abs().square().sum(-1)[1:]
    if not energy.sum() > 0:
        return 0.0
    below = energy.cumsum(0) / energy.sum()
    return float(torch.searchsorted(below, torch.tensor(share, dtype=below.dtype))) + 1.0


def dominant_frequencies(truth: Tensor, sample_rate: float, count: int) -> list[float]:
    """The strongest local peaks of a signal's spectrum, its mean excluded.

    A bin is a peak if its magnitude is above that of the bin before and not below that of the bin after.

    Args:
        truth: ``(N,)``, real, evenly spaced samples.
        sample_rate: Samples per unit of the axis.
        count: Largest number of peaks.

    Returns:
        Frequencies of their bins in cycles per unit of the axis, ascending; fewer than count, or none, where fewer
        peaks stand above rounding.

    Raises:
        ValueError: If the signal is no such samples, or count is not positive.
    """
    if count < 1:
        raise ValueError(f"count must be positive, got {count}.")
    spectrum = _spectrum(truth, sample_rate)
    floor = _energy_floor(spectrum, truth.dtype)
    magnitudes = spectrum.abs()
    magnitudes[0] = 0.0  # the mean is no neighbour of bin 1 either
    following = torch.cat([magnitudes[2:], magnitudes.new_zeros(1)])
    is_peak = (magnitudes[1:] > magnitudes[:-1]) & (magnitudes[1:] >= following) & (magnitudes[1:] > floor)
    peaks = is_peak.nonzero()[:, 0] + 1
    strongest = peaks[magnitudes[peaks].argsort(descending=True)[:count]]
    return [int(k) * sample_rate / truth.shape[0] for k in strongest.sort().values]


def log_spectrum(image: np.ndarray, side: int = 1) -> np.ndarray:
    """log10 of the magnitudes of an image's 2D DFT, for pictures.

    The mean is removed, because it would outshine all else. The transform is orthonormal, so that white noise of
    standard deviation s has magnitudes of about s in an image of any size. Magnitudes under 1e-10 count as 1e-10.

    Args:
        image: ``(H, W)``.
        side: Side in bins of the squares to take root mean squares of magnitudes over, where every bin is too many.

    Returns:
        ``(ceil(H / side), ceil(W / side))``, float64, frequency zero at ``[H // 2, W // 2]`` or in its square.

    Raises:
        ValueError: If the image is not two-dimensional or empty.
    """
    half = _half_dft_magnitudes(image)
    height, width = image.shape
    # Where frequencies stand from the lowest, and where those of opposite sign stand, which have the same magnitudes.
    vertical = (np.arange(height) - height // 2) % height
    opposite = -vertical % height
    parts = []
    for rows in _strips(height, width, side):
        right = half[vertical[rows], : (width + 1) // 2]
        left = half[opposite[rows], width // 2 : 0 : -1]
        parts.append(means_over_squares(np.concatenate([left, right], axis=1) ** 2, side))
    return np.log10(np.maximum(np.sqrt(np.concatenate(parts)), LOG_FLOOR))


def radial_energy(residual: np.ndarray, num_bands: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Mean squared magnitudes of an image's 2D DFT over rings of equal spatial frequency.

    The rings are equally wide and cover the frequencies above zero and up to 0.5 cycles per pixel, the highest along
    an axis; the corners beyond, which only diagonals reach, are in none. The transform is orthonormal: white noise of
    variance s^2 has s^2 in every ring.

    Args:
        residual: ``(H, W)``; an error, or any image.
        num_bands: Number of rings.

    Returns:
        Middle of each ring in cycles per pixel, and its mean squared magnitude, ``(num_bands,)`` float64 each.

    Raises:
        ValueError: If the image is not two-dimensional or empty, or too small for that many rings: its longer side
            must be at least ``2 * num_bands`` pixels.
    """
    half = _half_dft_magnitudes(residual)
    height, width = residual.shape
    if num_bands < 1 or max(height, width) < 2 * num_bands:
        raise ValueError(
            f"{num_bands} rings do not fit an image of {height} x {width} pixels. Choose at least 1 "
            f"and at most {max(height, width) // 2}."
        )
    vertical, horizontal = np.fft.fftfreq(height), np.fft.rfftfreq(width)
    # Bins that stand for their opposites too: all but frequency 0 and, of an even width, the highest.
    times = np.where((horizontal > 0) & (horizontal < 0.5), 2.0, 1.0)
    counts, sums = np.zeros(num_bands), np.zeros(num_bands)
    for rows in _strips(height, width):
        radii = np.hypot(vertical[rows, None], horizontal[None, :])
        # Ring b is (b, b + 1] / (2 num_bands): the upper edge belongs to it, so that 0.5 is in the last. The 1e-9 keep
        # radii on an edge from rounding over it.
        inside = (radii > 0) & (radii <= 0.5 + 1e-9)
        rings = np.ceil(radii[inside] * 2 * num_bands - 1e-9).astype(int) - 1
        weights = np.broadcast_to(times, radii.shape)[inside]
        counts += np.bincount(rings, weights=weights, minlength=num_bands)
        sums += np.bincount(rings, weights=weights * half[rows][inside] ** 2, minlength=num_bands)
    return (np.arange(num_bands) + 0.5) / (2 * num_bands), sums / counts


def _half_dft_magnitudes(image: np.ndarray) -> np.ndarray:
    """``(H, W // 2 + 1)``, frequency zero first; orthonormal, mean removed. The other half are the same magnitudes."""
    if image.ndim != 2 or image.size == 0:
        raise ValueError(f"Need one image channel (H, W), got shape {image.shape}.")
    height, width = image.shape
    mean = image.mean(dtype=np.float64)
    half = np.empty((height, width // 2 + 1), dtype=np.complex128)
    for rows in _strips(height, width):
        half[rows] = scipy.fft.rfft(image[rows].astype(np.float64) - mean, axis=1, norm="ortho")
    return np.abs(scipy.fft.fft(half, axis=0, norm="ortho", overwrite_x=True))


def _strips(height: int, width: int, multiple: int = 1) -> Iterator[slice]:
    """Rows that are worked on at once, a multiple of some number but for the last."""
    rows = max(_VALUES_AT_ONCE // (width * multiple), 1) * multiple
    for start in range(0, height, rows):
        yield slice(start, start + rows)


def _spectrum(signal: Tensor, sample_rate: float) -> Tensor:
    """DFT of a checked signal at bins 0 to N // 2, complex128."""
    if signal.ndim != 1 or signal.shape[0] < 2 or not signal.is_floating_point():
        raise ValueError(
            f"Need at least two floating samples of one signal, (N,), got shape {tuple(signal.shape)} of "
            f"{signal.dtype}."
        )
    if not bool(signal.isfinite().all()):
        raise ValueError("The true signal holds values that are not finite.")
    if not sample_rate > 0:
        raise ValueError(f"sample_rate must be positive, got {sample_rate}.")
    return torch.fft.rfft(signal.detach().double())


def _energy_floor(spectrum: Tensor, dtype: torch.dtype) -> float:
    """Magnitude up to which a bin counts as empty."""
    return max(NO_ENERGY, torch.finfo(dtype).eps) * float(spectrum.abs().max())


def _distinct_bins(frequencies: Sequence[float], num_samples: int, sample_rate: float) -> dict[float, int]:
    """Nearest bin of each frequency."""
    taken: dict[int, float] = {}
    for frequency in frequencies:
        if not 0 < frequency <= sample_rate / 2:
            raise ValueError(
                f"Got a frequency of {frequency}; the samples resolve those above 0 and up to {sample_rate / 2}, half "
                "the sample rate."
            )
        index = math.ceil(frequency * num_samples / sample_rate - 0.5)
        if index == 0:
            raise ValueError(
                f"A frequency of {frequency} falls on bin 0, the mean; bins are {sample_rate / num_samples} apart. "
                "Give a longer signal."
            )
        if index in taken:
            raise ValueError(
                f"The frequencies {taken[index]} and {frequency} fall on the same bin; bins are "
                f"{sample_rate / num_samples} apart. Drop one, or give a longer signal."
            )
        taken[index] = frequency
    return {frequency: index for index, frequency in taken.items()}
