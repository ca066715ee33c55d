"""1D signals from files of sound, tables and arrays."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iga_nerfstudio.arguments import whole_number
from iga_nerfstudio.data.files import read_file, require_ending
from iga_nerfstudio.data.samples import MAX_CHANNELS, Samples
from iga_nerfstudio.data.sounds import SOUND_ENDINGS, read_sound
from iga_nerfstudio.data.tables import TEXT_ENDINGS, read_table


@dataclass(frozen=True, eq=False)
class Waveform:
    """An evenly sampled signal, its values just as they were found: neither shifted nor scaled.

    Attributes:
        x: Positions for the network, float64 ``(N,)``, ascending and evenly spaced in [-1, 1].
        values: float64 ``(N, C)``, one column per channel.
        sample_rate: Samples per second, or per unit of the original axis.
        start: Place of the first sample on the original axis.
        unit: Unit of the original axis, ``"s"`` or empty if unknown.

    Raises:
        ValueError: If the shapes do not fit each other, there are fewer than 2 samples, or the sample rate is not
            positive.
    """

    x: NDArray[np.float64]
    values: NDArray[np.float64]
    sample_rate: float
    start: float = 0.0
    unit: str = ""

    def __post_init__(self) -> None:
        if self.x.ndim != 1 or self.values.ndim != 2 or len(self.x) != len(self.values) or len(self.x) < 2:
            raise ValueError(
                "A waveform needs positions (N,) and values (N, C) with N of 2 or more, "
                f"but they have the shapes {self.x.shape} and {self.values.shape}."
            )
        if not 0 < self.sample_rate < math.inf:
            raise ValueError(f"The sample rate must be positive, but it is {self.sample_rate}.")

    @property
    def peak(self) -> float:
        """Largest magnitude of all values, 0 for a silent signal."""
        return float(np.abs(self.values).max())

    @property
    def axis(self) -> NDArray[np.float64]:
        """Places of the samples on the original axis, float64 ``(N,)``, in :attr:`unit`."""
        return self.start + np.arange(len(self.x)) / self.sample_rate


def read_waveform(
    path: Path,
    *,
    channel: int | None = None,
    column: int | str | None = None,
    start: float = 0.0,
    duration: float | None = None,
    max_samples: int | None = None,
) -> Waveform:
    """Read a signal from a file; its ending tells the format.

    ``.wav``, ``.flac``, ``.ogg``, ``.mp3``, ``.aiff``: whole numbers scaled to [-1, 1], or floating point as it is.
    All channels are kept.

    ``.csv``, ``.tsv``, ``.txt``: Numbers with a decimal point, separated by tab, semicolon, comma or space. The
    first line may name the columns; empty lines and lines that begin with ``#`` are skipped. A single column holds
    values with a sample rate of 1. Of several columns the first holds the positions, ascending and evenly spaced,
    and the others are the channels.

    ``.npy``: A real array ``(N,)`` or ``(N, C)`` with a sample rate of 1.

    The network positions run from -1 for the first sample to 1 for the last one.

    Args:
        path: The file.
        channel: Keep only this channel of a sound or NPY file, counted from 0.
        column: Keep only this value column of a text file: its name, or its number in the file counted from 0.
        start: Leave out this much at the beginning, in seconds or units of the axis.
        duration: Length of the stretch to keep, in the same unit; up to the end by default.
        max_samples: Refuse a stretch with more samples. Nothing is ever left out of it silently.

    Raises:
        ValueError: If the file is missing, empty, damaged or of another kind; if the channel, column or stretch is
            not in it; if the stretch has fewer than 2 or more than ``max_samples`` samples, or values that are not
            finite.
    """
    path = Path(path)
    signal = _read_samples(path, channel, column)
    signal = _stretch(signal, start, duration, path)
    if max_samples is not None:
        _check_length(signal, whole_number("max_samples", max_samples, 2), path)
    values = _finite_values(signal.values, path)
    x = np.linspace(-1.0, 1.0, len(values))
    return Waveform(x=x, values=values, sample_rate=signal.rate, start=signal.start, unit=signal.unit)


def waveform_of(values: NDArray[Any]) -> Waveform:
    """A signal that is there already.

    Args:
        values: Real and evenly spaced, ``(N,)`` or ``(N, C)`` with up to 16 channels.

    Returns:
        Float64 values with a sample rate of 1.

    Raises:
        ValueError: If they are not, or not finite.
    """
    channels = _finite_values(_as_channels(values, "The signal"), "the signal")
    return Waveform(np.linspace(-1.0, 1.0, len(channels)), channels, sample_rate=1.0)


def _read_samples(path: Path, channel: int | None, column: int | str | None) -> Samples:
    if not path.is_dir():
        require_ending(path, (*SOUND_ENDINGS, *TEXT_ENDINGS, ".npy"))
    ending = path.suffix.lower()
    if ending in TEXT_ENDINGS:
        if channel is not None:
            raise ValueError(f"{path} is a text file, which has columns instead of channels. Pass column.")
        return read_table(path, column)
    if column is not None:
        raise ValueError(f"{path} has channels instead of columns. Pass channel.")
    samples = _read_npy(read_file(path), path) if ending == ".npy" else read_sound(path)
    return samples._replace(values=_pick_channel(samples.values, channel, path))


def _pick_channel(values: NDArray[Any], channel: int | None, path: Path) -> NDArray[Any]:
    if channel is None:
        return values
    index = whole_number("channel", channel, 0)
    if index >= values.shape[1]:
        raise ValueError(f"There is no channel {index} in {path}: it has {values.shape[1]}, counted from 0.")
    return values[:, index : index + 1]


def _read_npy(content: bytes, path: Path) -> Samples:
    try:
        values = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    except Exception as error:  # Broken files raise all sorts.
        raise ValueError(f"{path} cannot be read as NPY: {error}. Write it with numpy.save.") from error
    return Samples(_as_channels(values, str(path)), 1.0, 0.0, "")


def _as_channels(values: NDArray[Any], name: str) -> NDArray[Any]:
    """An array as ``(N, C)``."""
    if values.dtype.kind not in "fiub":
        raise ValueError(f"{name} holds values of type {values.dtype}, but real numbers are needed.")
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or not 1 <= values.shape[1] <= MAX_CHANNELS:
        raise ValueError(
            f"{name} holds an array of shape {values.shape}, but (N,), or (N, C) with 1 to {MAX_CHANNELS} channels, "
            "is needed. Reshape or transpose it."
        )
    return values


def _stretch(signal: Samples, start: float, duration: float | None, path: Path) -> Samples:
    """Cut out a stretch that begins ``start`` after the first sample."""
    available = len(signal.values)
    if available < 2:
        raise ValueError(f"{path} holds {available or 'no'} sample{'s' * (available != 1)}, but at least 2 are needed.")
    if not 0 <= start < math.inf:
        raise ValueError(f"start must not be negative, but it is {start}. It counts from the first sample.")
    if duration is not None and not 0 < duration < math.inf:
        raise ValueError(f"duration must be positive, but it is {duration}.")
    # Capped before rounding, which infinity would not survive.
    first = round(min(start * signal.rate, available))
    count = available - first if duration is None else round(min(duration * signal.rate, available + 1))
    if first >= available or first + count > available:
        wanted = f"from {start:g} on" if duration is None else f"from {start:g} to {start + duration:g}"
        raise ValueError(
            f"The stretch {wanted} leaves {path}, which is {available / signal.rate:g}{_spaced(signal.unit)} long "
            f"({available} samples). Change start or duration."
        )
    if count < 2:
        raise ValueError(
            f"The stretch of {path} has {count} sample{'s' * (count != 1)}, but at least 2 are needed, "
            f"that is a duration of {2 / signal.rate:g}{_spaced(signal.unit)}. Change start or duration."
        )
    return signal._replace(values=signal.values[first : first + count], start=signal.start + first / signal.rate)


def _spaced(unit: str) -> str:
    return f" {unit}" if unit else ""


def _check_length(signal: Samples, max_samples: int, path: Path) -> None:
    count = len(signal.values)
    if count > max_samples:
        raise ValueError(
            f"The signal from {path} has {count} samples, but at most {max_samples} are allowed. Cut it with start and "
            f"duration, at most duration={max_samples / signal.rate:.9g}, or raise max_samples."
        )


def _finite_values(values: NDArray[Any], name: Path | str) -> NDArray[np.float64]:
    usable = np.isfinite(values) & (np.abs(values) <= np.finfo(np.float32).max)  # the network is fed single precision
    if not usable.all():
        raise ValueError(
            f"{np.count_nonzero(~usable)} of the {usable.size} values of {name} are NaN, infinite or too large for "
            "single precision. Cut them off with start and duration, or repair the file."
        )
    return values.astype(np.float64)
