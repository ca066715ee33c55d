"""Files of sound, by libsndfile."""

from __future__ import annotations

import logging
import os
import re
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from iga_nerfstudio.data.files import read_file, require_file, told_in_one_line
from iga_nerfstudio.data.samples import Samples, count_bad
from iga_nerfstudio.files import write_whole

logger = logging.getLogger("iga_nerfstudio")

SOUND_ENDINGS = (".wav", ".flac", ".ogg", ".mp3", ".aif", ".aiff")

_PCM_STEPS = 2**15
# Samples per channel that are decoded at once: a damaged header may announce more than fit into the memory.
_BLOCK = 1 << 20
# What libsndfile announces where the file does not say.
_UNKNOWN_COUNT = 2**63 - 1
# Sizes from here on stand for "not known": programs that write into a pipe announce 2 or 4 GiB.
_UNKNOWN_SIZE = 0x7FFF0000
# What libsndfile notes where a file ends before its samples do: WAV, AIFF, AU; W64; RF64.
_CUT_SHORT = re.compile(r"^ *(?:data|SSND|Data Size|riff) *: *(\d+) \(should be (\d+)\)", re.MULTILINE)
_FEWER_FRAMES = re.compile(r"Calculated frame count (\d+) does not match value from 'ds64' chunk of (\d+)")

_ID3_HEADER = 10
# The header of an MP3 file's first frame, in which the encoder says how many there are if the lowest bit is set.
_FRAME_COUNT = re.compile(rb"(?:Xing|Info)...[\x01\x03\x05\x07\x09\x0b\x0d\x0f]", re.DOTALL)
_FRAME_COUNT_WITHIN = 64

_OGG_HEADER = 27
_OGG_FIRST, _OGG_LAST = 2, 4
# Ogg takes bits from the highest on for its checksum, zlib from the lowest.
_REVERSED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def read_sound(path: Path) -> Samples:
    """Read all channels of a file of sound.

    Args:
        path: The file. Whole numbers are scaled to [-1, 1], floating point is taken as it is.

    Raises:
        ValueError: If it is missing, empty, no sound, damaged (formats with checksums) or cut short.
    """
    require_file(path)
    try:
        with _opened(path) as file:
            values = _decoded(file)
            announced, rate, notes, is_ogg = file.frames, file.samplerate, file.extra_info, file.format == "OGG"
    except (soundfile.SoundFileError, RuntimeError, ValueError) as error:
        reason = getattr(error, "error_string", str(error)).rstrip(".")
        raise ValueError(
            f"{path} cannot be read as sound: {reason}. "
            "Copy or download it again if it is damaged, or save it as WAV with a sound program."
        ) from error
    if is_ogg:
        _check_ogg(read_file(path), path)
    cut = _CUT_SHORT.search(notes)
    if cut and int(cut[2]) < int(cut[1]) < _UNKNOWN_SIZE:
        size, there = int(cut[1]), int(cut[2])
        raise ValueError(
            f"{path} is truncated: {size - there} of the {size} bytes of its samples are missing. "
            "Copy or download it again."
        )
    fewer = _FEWER_FRAMES.search(notes)
    if fewer:
        announced = int(fewer[2])
    if len(values) < announced < _UNKNOWN_COUNT:
        raise ValueError(
            f"{path} is truncated: {announced - len(values)} of its {announced} samples are missing. "
            "Copy or download it again."
        )
    return Samples(values, float(rate), 0.0, "s")


@contextmanager
def _opened(path: Path) -> Iterator[soundfile.SoundFile]:
    """The file for :func:`_decoded`."""
    with soundfile.SoundFile(path) as file:
        if file.frames == _UNKNOWN_COUNT:
            raise ValueError("it does not say how many samples it has, as what is written into a pipe")
        if file.format != "MP3":
            yield file
            return
    content = read_file(path)
    tags = _size_of_tags(content)
    if _FRAME_COUNT.search(content[tags : tags + _FRAME_COUNT_WITHIN]):
        with soundfile.SoundFile(path) as file:
            yield file
        return
    # Of such a file libsndfile reads only as much as it guesses from the first frame, unless it comes from a pipe.
    with _pipe(content[tags:]) as end, soundfile.SoundFile(end, closefd=False) as file:
        yield file


def _size_of_tags(content: bytes) -> int:
    """Bytes of an MP3 file in front of its first frame: title, cover and the like (ID3v2)."""
    if not content.startswith(b"ID3"):
        return 0
    size = 0
    for byte in content[6:_ID3_HEADER]:
        size = size << 7 | byte & 0x7F
    return _ID3_HEADER + size


@contextmanager
def _pipe(content: bytes) -> Iterator[int]:
    """The end of a pipe from which the bytes can be read."""
    reading, writing = os.pipe()

    def write() -> None:
        try:
            with os.fdopen(writing, "wb") as file:
                file.write(content)
        except BrokenPipeError:  # the reader has seen enough
            pass

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield reading
    finally:
        os.close(reading)
        writer.join()


def _decoded(file: soundfile.SoundFile) -> NDArray[np.float32]:
    """All samples that are there, ``(N, C)``."""
    blocks = [np.empty((0, file.channels), np.float32)]
    while len(block := file.read(_BLOCK, dtype="float32", always_2d=True)):
        blocks.append(block)
    return np.concatenate(blocks)


def _check_ogg(content: bytes, path: Path) -> None:
    """Refuse missing and damaged pages, which libsndfile leaves out without an error."""
    place, num_streams, flags = 0, 0, 0
    while content.startswith(b"OggS", place):
        num_segments = content[place + _OGG_HEADER - 1] if place + _OGG_HEADER <= len(content) else 0
        start = place + _OGG_HEADER + num_segments
        end = start + sum(content[place + _OGG_HEADER : start])
        if end > len(content):
            raise ValueError(f"{path} is truncated: it ends within a page of Ogg. Copy or download it again.")
        if not _has_right_checksum(content[place:end]):
            raise ValueError(f"{path} is damaged: the bytes {place} to {end} are not right. Copy or download it again.")
        flags = content[place + 5]
        num_streams += bool(flags & _OGG_FIRST)
        place = end
    if place < len(content) and not flags & _OGG_LAST:
        raise ValueError(f"{path} is damaged: nothing can be read from byte {place} on. Copy or download it again.")
    if num_streams > 1:
        logger.warning("%s holds %d sounds one after the other; only the first is read.", path, num_streams)


def _has_right_checksum(page: bytes) -> bool:
    found = page[22:26].translate(_REVERSED_BITS)
    content = (page[:22] + bytes(4) + page[26:]).translate(_REVERSED_BITS)
    return zlib.crc32(content, 0xFFFFFFFF) ^ 0xFFFFFFFF == int.from_bytes(found, "big")


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
