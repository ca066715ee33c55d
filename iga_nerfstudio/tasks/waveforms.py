"""1D signals: sums of sines, the signals of the paper, and WAV, CSV and NPY files."""

from __future__ import annotations

import csv
import io
import logging
import math
import struct
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.io import wavfile

from iga_nerfstudio.arguments import whole_number
from iga_nerfstudio.tasks.image_files import read_file, write_file

logger = logging.getLogger("iga_nerfstudio")

MAX_CHANNELS = 16
"""Most channels in a CSV or NPY file. An array with more is more likely the wrong way round."""

PaperSignal = Literal["experiment1", "experiment2", "experiment2_relu"]

_TEXT_ENDINGS = (".csv", ".tsv", ".txt")
_ENDINGS = (".wav", *_TEXT_ENDINGS, ".npy")
# Lines looked at to find out what separates the columns.
_SNIFFED_LINES = 20
# A position may be this far from where even spacing puts it, in steps: files hold rounded positions.
_SPACING_TOLERANCE = 0.05
# The size that programs write when they do not know it in advance.
_UNKNOWN_SIZE = 0xFFFFFFFF
_PCM_STEPS = 2**15


@dataclass(frozen=True, eq=False)
class Waveform:
    """An evenly sampled signal, its values just as they were found: neither shifted nor scaled.

    Attributes:
        x: Positions for the network, float64 ``(N,)``, ascending and evenly spaced in [-1, 1].
        values: float32 ``(N, C)``, one column per channel.
        sample_rate: Samples per second, or per unit of the original axis.
        start: Place of the first sample on the original axis.
        unit: Unit of the original axis, ``"s"`` or empty if unknown.

    Raises:
        ValueError: If the shapes do not fit each other, there are fewer than 2 samples, or the sample rate is not
            positive.
    """

    x: NDArray[np.float64]
    values: NDArray[np.float32]
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
    return Waveform(
        x=2.0 * fractions - 1.0, values=values[:, None].astype(np.float32), sample_rate=rate, start=low, unit=""
    )


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

    ``.wav``: PCM of up to 32 bits, scaled to [-1, 1], or floating point as it is. All channels are kept.

    ``.csv``, ``.tsv``, ``.txt``: Numbers with a decimal point, separated by tab, semicolon, comma or space. The
    first line may name the columns; empty lines and lines that begin with ``#`` are skipped. A single column holds
    values with a sample rate of 1. Of several columns the first holds the positions, ascending and evenly spaced,
    and the others are the channels.

    ``.npy``: A real array ``(N,)`` or ``(N, C)`` with a sample rate of 1.

    The network positions run from -1 for the first sample to 1 for the last one.

    Args:
        path: The file.
        channel: Keep only this channel of a WAV or NPY file, counted from 0.
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


def write_wav(path: Path, values: NDArray[Any], sample_rate: float) -> None:
    """Write a 16-bit PCM file. The file appears complete or not at all.

    Args:
        path: The file, ending in ``.wav``; its folder is made if missing.
        values: ``(N, C)``, one column per channel, in [-1, 1]. Values beyond are clipped, and one logged line says
            how many.
        sample_rate: Samples per second, a whole number.

    Raises:
        ValueError: If the array has another shape or values that are not finite, if the sample rate is no positive
            whole number, or if the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".wav":
        raise ValueError(f"Sound is written as WAV, but {path} ends in {path.suffix!r}. Choose a name ending in .wav.")
    if values.ndim != 2 or values.size == 0 or values.dtype.kind not in "fiu":
        raise ValueError(f"values must be real numbers (N, C), but they are {values.dtype} of shape {values.shape}.")
    if not np.isfinite(values).all():
        raise ValueError(
            f"{_count_bad(values)} of the {values.size} values are NaN or infinite, which WAV cannot hold."
        )
    if not (1 <= sample_rate < 2**32 / (2 * values.shape[1]) and float(sample_rate).is_integer()):
        raise ValueError(f"WAV files need a whole number of samples per second, but sample_rate is {sample_rate}.")
    clipped = int((np.abs(values.astype(np.float64)) > 1.0).sum())
    if clipped:
        logger.warning("%d of the %d values are beyond [-1, 1] and clipped in %s.", clipped, values.size, path)
    levels = np.clip(np.rint(values.astype(np.float64) * _PCM_STEPS), -_PCM_STEPS, _PCM_STEPS - 1)
    buffer = io.BytesIO()
    wavfile.write(buffer, int(sample_rate), levels.astype(np.int16))
    write_file(path, buffer.getvalue())


class _Samples(NamedTuple):
    """What a file holds, ``values`` being ``(N, C)`` in any real type."""

    values: NDArray[Any]
    rate: float
    start: float
    unit: str


class _Table(NamedTuple):
    """Numbers of a text file, ``(N, C)``, the line that each row was found in, and the names of the columns."""

    numbers: NDArray[np.float64]
    lines: list[int]
    names: list[str]


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


def _read_samples(path: Path, channel: int | None, column: int | str | None) -> _Samples:
    ending = path.suffix.lower()
    if ending not in _ENDINGS and not path.is_dir():
        raise ValueError(f"{path} ends in {path.suffix!r}, but signals are read from {', '.join(_ENDINGS)} files.")
    content = read_file(path)
    if ending in _TEXT_ENDINGS:
        if channel is not None:
            raise ValueError(f"{path} is a text file, which has columns instead of channels. Pass column.")
        return _from_table(_read_table(content, path), column, path)
    if column is not None:
        raise ValueError(f"{path} has channels instead of columns. Pass channel.")
    samples = _read_wav(content, path) if ending == ".wav" else _read_npy(content, path)
    return samples._replace(values=_pick_channel(samples.values, channel, path))


def _pick_channel(values: NDArray[Any], channel: int | None, path: Path) -> NDArray[Any]:
    if channel is None:
        return values
    index = whole_number("channel", channel, 0)
    if index >= values.shape[1]:
        raise ValueError(f"There is no channel {index} in {path}: it has {values.shape[1]}, counted from 0.")
    return values[:, index : index + 1]


def _read_wav(content: bytes, path: Path) -> _Samples:
    if content[:4] not in (b"RIFF", b"RIFX", b"RF64"):
        raise ValueError(f"{path} is no WAV file in spite of its ending. Convert it with a sound program.")
    _check_wav_is_complete(content, path)
    try:
        with warnings.catch_warnings():
            # It warns of chunks that hold no samples; whether those with samples are complete is known by now.
            warnings.simplefilter("ignore", wavfile.WavFileWarning)
            rate, levels = wavfile.read(io.BytesIO(content))
    except Exception as error:  # Broken files raise all sorts.
        raise ValueError(
            f"{path} cannot be read as WAV: {error}. Save it as 16-bit PCM with a sound program."
        ) from error
    if rate < 1:
        raise ValueError(f"{path} is damaged: its header gives a sample rate of {rate}. Convert it again.")
    levels = levels[:, None] if levels.ndim == 1 else levels
    return _Samples(_unscaled(levels), float(rate), 0.0, "s")


def _check_wav_is_complete(content: bytes, path: Path) -> None:
    """The reader takes what samples there are, so compare the announced size with that of the file."""
    order = ">" if content.startswith(b"RIFX") else "<"
    place = 12
    while place + 8 <= len(content):
        name, size = struct.unpack_from(f"{order}4sI", content, place)
        missing = place + 8 + size - len(content)
        if name == b"data" and size != _UNKNOWN_SIZE and missing > 0:
            raise ValueError(
                f"{path} is truncated: {missing} of the {size} bytes of its samples are missing. "
                "Copy or download it again."
            )
        if name == b"data":
            return
        place += 8 + size + size % 2
    raise ValueError(f"{path} is damaged or truncated: it ends before its samples begin. Copy or download it again.")


def _unscaled(levels: NDArray[Any]) -> NDArray[Any]:
    """WAV samples in [-1, 1]: 8 bits are unsigned, more are signed, floating point stays."""
    if levels.dtype.kind == "f":
        return levels
    if levels.dtype == np.uint8:
        return (levels.astype(np.float32) - 128.0) / 128.0
    return levels / 2.0 ** (8 * levels.dtype.itemsize - 1)


def _read_npy(content: bytes, path: Path) -> _Samples:
    try:
        values = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    except Exception as error:  # Broken files raise all sorts.
        raise ValueError(f"{path} cannot be read as NPY: {error}. Write it with numpy.save.") from error
    if values.dtype.kind not in "fiub":
        raise ValueError(f"{path} holds values of type {values.dtype}, but real numbers are needed.")
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or not 1 <= values.shape[1] <= MAX_CHANNELS:
        raise ValueError(
            f"{path} holds an array of shape {values.shape}, but (N,), or (N, C) with 1 to {MAX_CHANNELS} channels, "
            "is needed. Reshape or transpose it."
        )
    return _Samples(values, 1.0, 0.0, "")


def _read_table(content: bytes, path: Path) -> _Table:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8: {error}. Save it as CSV in UTF-8.") from error
    numbered = [(number, line.strip(" \r")) for number, line in enumerate(text.split("\n"), start=1)]
    numbered = [(number, line) for number, line in numbered if line.strip() and not line.startswith("#")]
    if not numbered:
        raise ValueError(f"{path} holds no numbers, only empty lines and comments.")
    delimiter = _delimiter([line for _, line in numbered[:_SNIFFED_LINES]])
    try:
        rows = [_fields(line, delimiter) for _, line in numbered]
    except csv.Error as error:
        raise ValueError(f"{path} is no table of numbers: {error}. Save it as CSV.") from error
    lines = [number for number, _ in numbered]
    names = rows[0] if not any(_is_number(field) for field in rows[0]) else []
    if names:
        rows, lines = rows[1:], lines[1:]
    _check_widths(rows, lines, names, path)
    return _Table(_parsed(rows, lines, path), lines, names)


def _delimiter(lines: list[str]) -> str | None:
    """The first candidate that is in every line. Comma comes late, since it may be a decimal comma, and space last."""
    return next((candidate for candidate in "\t;, " if all(candidate in line for line in lines)), None)


def _fields(line: str, delimiter: str | None) -> list[str]:
    if delimiter is None:
        return [line.strip().strip('"')]
    if delimiter == " ":
        return line.split()
    return [field.strip() for field in next(csv.reader([line], delimiter=delimiter, skipinitialspace=True))]


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _check_widths(rows: list[list[str]], lines: list[int], names: list[str], path: Path) -> None:
    if not rows:
        raise ValueError(f"{path} holds no numbers, only the names of columns: {', '.join(names)}.")
    width = len(names or rows[0])
    for row, line in zip(rows, lines, strict=True):
        if len(row) != width:
            raise ValueError(f"{path}, line {line}: {len(row)} columns, but the first line has {width}.")


def _parsed(rows: list[list[str]], lines: list[int], path: Path) -> NDArray[np.float64]:
    try:
        return np.array([[float(field) for field in row] for row in rows])
    except ValueError:
        bad, line = next(
            (field, line) for row, line in zip(rows, lines, strict=True) for field in row if not _is_number(field)
        )
    hint = "Use a decimal point." if _is_number(bad.replace(",", ".")) else "Correct or remove the line."
    raise ValueError(f"{path}, line {line}: {bad!r} is not a number. {hint}")


def _from_table(table: _Table, column: int | str | None, path: Path) -> _Samples:
    width = table.numbers.shape[1]
    if width > MAX_CHANNELS + 1:
        raise ValueError(
            f"{path} has {width} columns, but at most {MAX_CHANNELS} beside the positions can be read. Put one sample "
            "in each line."
        )
    first = 0 if width == 1 else 1
    index = None if column is None else _column_index(table, column, first, path)
    values = table.numbers[:, first:] if index is None else table.numbers[:, index : index + 1]
    if width == 1:
        return _Samples(values, 1.0, 0.0, "")
    rate = _rate(table, path)
    return _Samples(values, rate, float(table.numbers[0, 0]), "")


def _column_index(table: _Table, column: int | str, first: int, path: Path) -> int:
    width = table.numbers.shape[1]
    if isinstance(column, str):
        if table.names.count(column) != 1:
            found = f"its columns are {', '.join(table.names)}" if table.names else "its columns have no names"
            raise ValueError(f"There is not one column {column!r} in {path}: {found}. Pass a name or a number.")
        index = table.names.index(column)
    else:
        index = whole_number("column", column, 0)
    if index >= width:
        raise ValueError(f"There is no column {index} in {path}: it has {width}, counted from 0.")
    if index < first:
        raise ValueError(f"Column {column!r} of {path} holds the positions. Pick one of the columns after it.")
    return index


def _rate(table: _Table, path: Path) -> float:
    """Samples per unit, from positions that must be evenly spaced."""
    positions = table.numbers[:, 0]
    if not np.isfinite(positions).all():
        raise ValueError(f"{_count_bad(positions)} positions in the first column of {path} are NaN or infinite.")
    if len(positions) < 2:
        raise ValueError(f"{path} holds 1 sample, but at least 2 are needed.")
    step = (positions[-1] - positions[0]) / (len(positions) - 1)
    even = np.linspace(positions[0], positions[-1], len(positions))
    if step <= 0 or (np.abs(positions - even) > _SPACING_TOLERANCE * step).any():
        row = int(np.argmax(np.abs(np.diff(positions) - step))) + 1
        raise ValueError(
            f"The first of several columns of {path} must hold ascending, evenly spaced positions, but in line "
            f"{table.lines[row]} {positions[row]:g} follows {positions[row - 1]:g}, and the mean step is {step:g}. "
            "Resample the signal evenly, or keep only the column of the values."
        )
    return float(1.0 / step)


def _stretch(signal: _Samples, start: float, duration: float | None, path: Path) -> _Samples:
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


def _check_length(signal: _Samples, max_samples: int, path: Path) -> None:
    count = len(signal.values)
    if count > max_samples:
        raise ValueError(
            f"The signal from {path} has {count} samples, but at most {max_samples} are allowed. Cut it with start and "
            f"duration, at most duration={max_samples / signal.rate:.9g}, or raise max_samples."
        )


def _finite_values(values: NDArray[Any], path: Path) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # Too large for float32 counts as infinite.
        result = values.astype(np.float32)
    if not np.isfinite(result).all():
        raise ValueError(
            f"{_count_bad(result)} of the {result.size} values of {path} are NaN, infinite or too large for single "
            "precision. Cut them off with start and duration, or repair the file."
        )
    return result


def _count_bad(values: NDArray[Any]) -> int:
    return int((~np.isfinite(values)).sum())
