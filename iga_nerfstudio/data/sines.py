"""Sums of sines, and the signals of the paper."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from iga_nerfstudio.arguments import whole_number
from iga_nerfstudio.data.kinds import PaperSignal
from iga_nerfstudio.data.waveforms import Waveform


class _PaperSignal(NamedTuple):
    frequencies: tuple[float, ...]
    domain: tuple[float, float]
    num_samples: int


PAPER_SIGNALS: dict[str, _PaperSignal] = {
    "experiment1": _PaperSignal((0.2, 0.4, 0.8, 1.6), (-5.0, 5.0), 1024),
    "experiment2": _PaperSignal((10.0, 20.0, 30.0, 40.0, 50.0, 60.0), (-1.0, 1.0), 2048),
    "experiment2_relu": _PaperSignal((5.0, 10.0, 15.0, 20.0, 25.0, 30.0), (-1.0, 1.0), 2048),
}


def sum_of_sines(
    frequencies: Sequence[float],
    amplitudes: Sequence[float] | None = None,
    phases: Sequence[float] | None = None,
    num_samples: int = 1024,
    domain: tuple[float, float] = (-1.0, 1.0),
    endpoint: bool = False,
) -> Waveform:
    """Sample ``sum_k amplitude_k sin(2 pi frequency_k t + phase_k)`` evenly over a domain.

    Without the end point, a frequency with whole periods in the domain is a bin of the discrete Fourier transform:
    frequency f is bin ``f * (high - low)``.

    Args:
        frequencies: Cycles per unit of t, not negative.
        amplitudes: One per frequency, 1 by default.
        phases: One per frequency in radians, 0 by default.
        num_samples: N, at least 2.
        domain: ``(low, high)`` of t. It is stretched to [-1, 1] for the network.
        endpoint: Whether the last sample lies at ``high``, or one step before.

    Returns:
        One channel; its axis is t.

    Raises:
        ValueError: If there is no frequency; if the lengths differ; if a number is not finite or out of range; if a
            frequency is not below the Nyquist frequency.
    """
    num_samples = whole_number("num_samples", num_samples, 2)
    terms = _checked_terms(frequencies, amplitudes, phases)
    low, high = _finite("domain", domain)
    if low >= high:
        raise ValueError(f"domain must be (low, high) with low below high, but it is {domain}.")
    steps = num_samples - 1 if endpoint else num_samples
    rate = steps / (high - low)
    _check_nyquist(terms[:, 0], rate, high - low, endpoint)
    # Counted from 0 and then shifted, so that x has the same values for every domain.
    fractions = np.arange(num_samples) / steps
    t = low + (high - low) * fractions
    values = np.sum(terms[:, 1] * np.sin(2.0 * np.pi * t[:, None] * terms[:, 0] + terms[:, 2]), axis=1)
    return Waveform(x=2.0 * fractions - 1.0, values=values[:, None], sample_rate=rate, start=low, unit="")


def paper_signal(name: PaperSignal, num_samples: int | None = None) -> Waveform:
    """One of the 1D signals of the IGA paper: sines of amplitude 1 and phase 0.

    ====================  ==============================  ==========  =======
    Name                  Cycles per unit of t            Domain      Samples
    ====================  ==============================  ==========  =======
    ``experiment1``       0.2, 0.4, 0.8, 1.6              [-5, 5)     1024
    ``experiment2``       10, 20, 30, 40, 50, 60          [-1, 1)     2048
    ``experiment2_relu``  5, 10, 15, 20, 25, 30           [-1, 1)     2048
    ====================  ==============================  ==========  =======

    ``experiment1`` is sin(0.4 pi t) + sin(0.8 pi t) + sin(1.6 pi t) + sin(3.2 pi t). The domain is a choice made
    here: every frequency makes whole periods in it. In the paper the network of that experiment sees
    (cos t, sin t); here :attr:`Waveform.x` is t stretched to [-1, 1] as for every other signal.
    ``experiment2`` is for SIREN; ``experiment2_relu``, for ReLU networks, halves its frequencies.

    Args:
        name: Which signal.
        num_samples: Number of samples, that of the table by default.

    Raises:
        ValueError: If there is no such signal or there are too few samples for its frequencies.
    """
    if name not in PAPER_SIGNALS:
        raise ValueError(f"There is no signal {name!r}. Choose one of {', '.join(PAPER_SIGNALS)}.")
    signal = PAPER_SIGNALS[name]
    count = signal.num_samples if num_samples is None else num_samples
    return sum_of_sines(signal.frequencies, num_samples=count, domain=signal.domain)


def _finite(name: str, numbers: Sequence[float]) -> NDArray[np.float64]:
    array = np.asarray(numbers, dtype=np.float64)
    if array.ndim != 1 or not np.isfinite(array).all():
        raise ValueError(f"{name} must be a list of finite numbers, but it is {numbers!r}.")
    return array


def _checked_terms(
    frequencies: Sequence[float], amplitudes: Sequence[float] | None, phases: Sequence[float] | None
) -> NDArray[np.float64]:
    """Frequency, amplitude and phase of each sine, ``(K, 3)``."""
    if len(frequencies) == 0:
        raise ValueError("frequencies is empty. Pass at least one frequency.")
    amplitudes = np.ones(len(frequencies)).tolist() if amplitudes is None else amplitudes
    phases = np.zeros(len(frequencies)).tolist() if phases is None else phases
    if not len(frequencies) == len(amplitudes) == len(phases):
        raise ValueError(
            f"Each sine needs a frequency, an amplitude and a phase, but there are {len(frequencies)} frequencies, "
            f"{len(amplitudes)} amplitudes and {len(phases)} phases."
        )
    terms = np.stack(
        [_finite("frequencies", frequencies), _finite("amplitudes", amplitudes), _finite("phases", phases)], axis=1
    )
    if terms[:, 0].min() < 0:
        raise ValueError(
            f"Frequencies must not be negative, but one is {terms[:, 0].min():g}. Change the phase instead."
        )
    return terms


def _check_nyquist(frequencies: NDArray[np.float64], rate: float, length: float, endpoint: bool) -> None:
    highest = float(frequencies.max())
    if highest >= rate / 2:
        needed = math.floor(2 * highest * length) + 1 + int(endpoint)
        raise ValueError(
            f"The frequency {highest:g} is not below the Nyquist frequency {rate / 2:g}, so the samples would show "
            f"another one. Take at least {needed} samples, or lower the frequency."
        )
