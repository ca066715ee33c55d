"""Files of sound, by libsndfile."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from iga_nerfstudio.data.files import require_file, told_in_one_line
from iga_nerfstudio.data.samples import Samples, count_bad
from iga_nerfstudio.files import write_whole

logger = logging.getLogger("iga_nerfstudio")

SOUND_ENDINGS = (".wav", ".flac", ".ogg", ".mp3", ".aif", ".aiff")

_PCM_STEPS = 2**15
# Sizes from here on stand for "not known": programs that write into a pipe announce 2 or 4 GiB.
_UNKNOWN_SIZE = 0x7FFF0000
# What libsndfile notes where a file ends before its samples do.
_CUT_SHORT = re.compile(r"data *: *(\d+) \(should be (\d+)\)")


def read_sound(path: Path) -> Samples:
    """Read all channels of a file of sound.

    Args:
        path: The file. Whole numbers are scaled to [-1, 1], floating point is taken as it is.

    Raises:
        ValueError: If it is missing, empty, no sound, or cut short.
    """
    require_file(path)
    try:
        with soundfile.SoundFile(path) as file:
            values = file.read(dtype="float32", always_2d=True)
            announced, rate, notes = file.frames, file.samplerate, file.extra_info
    except soundfile.SoundFileError as error:
        reason = getattr(error, "error_string", str(error)).rstrip(".")
        raise ValueError(f"{path} cannot be read as sound: {reason}. Save it as WAV with a sound program.") from error
    cut = _CUT_SHORT.search(notes)
    if cut and int(cut[1]) < _UNKNOWN_SIZE:
        size, there = int(cut[1]), int(cut[2])
        raise ValueError(
            f"{path} is truncated: {size - there} of the {size} bytes of its samples are missing. "
            "Copy or download it again."
        )
    if len(values) < announced:
        raise ValueError(
            f"{path} is truncated: {announced - len(values)} of its {announced} samples are missing. "
            "Copy or download it again."
        )
    return Samples(values, float(rate), 0.0, "s")


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
        raise ValueError(f"{count_bad(values)} of the {values.size} values are NaN or infinite, which WAV cannot hold.")
    if not (1 <= sample_rate < 2**32 / (2 * values.shape[1]) and float(sample_rate).is_integer()):
        raise ValueError(f"WAV files need a whole number of samples per second, but sample_rate is {sample_rate}.")
    clipped = int((np.abs(values.astype(np.float64)) > 1.0).sum())
    if clipped:
        logger.warning("%d of the %d values are beyond [-1, 1] and clipped in %s.", clipped, values.size, path)
    levels = np.clip(np.rint(values.astype(np.float64) * _PCM_STEPS), -_PCM_STEPS, _PCM_STEPS - 1).astype(np.int16)
    with told_in_one_line(path):
        write_whole(path, lambda staged: soundfile.write(staged, levels, int(sample_rate), "PCM_16", format="WAV"))
