"""Files that are whole or as they were before."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path


def write_whole(path: Path, write: Callable[[Path], object], staging: Path | None = None) -> None:
    """Write a file under another name first, so that nobody finds half of it under its own.

    Args:
        path: The file. Its folder is made if missing.
        write: Writes the path it is given, which has the same ending.
        staging: Folder on the same disk to write in first, made and removed again; the file's own if not given.

    Raises:
        OSError: If it cannot be written; nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    if staging is not None:
        # What a process that was killed while writing has left.
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        staged = staging / staged.name
    try:
        write(staged)
        # The name may reach the disk before the contents do; a power cut would leave an empty file.
        with staged.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(staged, path)
    finally:
        staged.unlink(missing_ok=True)
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8; see :func:`write_whole`.

    Names of files may hold bytes that the locale knows no characters for: they are written as they are.
    """
    write_whole(path, lambda staged: staged.write_text(text, encoding="utf-8", errors="surrogateescape"))


def write_bytes(path: Path, content: bytes | memoryview, staging: Path | None = None) -> None:
    """Write a file; see :func:`write_whole`."""
    write_whole(path, lambda staged: staged.write_bytes(content), staging)
