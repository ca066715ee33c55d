"""Tensors and plain values on disk, whole and checked."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from iga_nerfstudio.files import write_bytes


def save_tensors(path: Path, content: dict[str, Any], staging: Path | None = None) -> None:
    """Write tensors and plain values with ``torch.save``; see :func:`~iga_nerfstudio.files.write_whole`.

    Args:
        path: The file.
        content: What to write.
        staging: Folder on the same disk to write in first; the file's own if not given.

    Raises:
        OSError: If the file cannot be written; one of that name that was there before is as it was.
    """
    # By way of memory: torch's own writer reports a full disk as a RuntimeError about positions in the file.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_bytes(path, buffer.getbuffer(), staging)


def load_tensors(path: Path) -> dict[str, Any]:
    """Read what :func:`save_tensors` wrote, onto the CPU.

    Raises:
        ValueError: If the file is missing, truncated, damaged (a single flipped bit is noticed) or something else.
    """
    if not path.is_file():
        raise ValueError(f"There is no file {path}.")
    try:
        # torch does not compare the check sums that it writes.
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(f"bad check sum of {damaged}")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever its zip reader, unpickler or storage met
        reason = str(error).splitlines()[0] if str(error) else "no message"
        raise ValueError(
            f"{path} cannot be read: it is truncated, damaged or something else ({type(error).__name__}: {reason})."
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} was not written by iga-nerfstudio: it holds a {type(content).__name__}.")
    return content


def checksum(tensors: Mapping[str, Any]) -> int:
    """One number of names and tensors, by which a changed bit is noticed; what is no tensor is left aside."""
    total = 0
    for name, value in sorted(tensors.items()):
        if isinstance(value, Tensor):
            total = zlib.crc32(name.encode(), total)
            # As bytes whatever the type: NumPy knows no bfloat16.
            total = zlib.crc32(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data, total)
    return total
