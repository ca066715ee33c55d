"""Folders of runs: everyone's own, and written by one process at a time."""

from __future__ import annotations

import atexit
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

# Held until the process ends, however it ends.
_LOCKS: dict[Path, FileLock] = {}
_LOCK_FILE = ".lock"
# What this process has made for a run: its folder, and the missing ones around it.
_MADE: dict[Path, list[Path]] = {}


def claim_run_folder(parent: Path, name: str | None, results: Collection[str]) -> Path:
    """Make the folder of a new run and keep other processes from writing to it.

    It is gone again when it is released, or the process ends, with nothing in it.

    Args:
        parent: Where runs of this kind are.
        name: The run's name; the time if not given, with a number behind it where another run has that second.
        results: Names of files and folders that a run leaves behind; a folder of that name without them is taken.

    Returns:
        The folder.

    Raises:
        ValueError: If a run of that name exists and has results, or is under way.
        OSError: If it cannot be made.
    """
    if name is not None:
        folder = parent / name
        _make(folder, exist_ok=True)
        lock_run_folder(folder)
        if any((folder / result).exists() for result in results):
            raise ValueError(
                f"{folder} holds a run already. Continue that one with --load-dir, or choose another --timestamp."
            )
        return folder
    time_name = time.strftime("%Y-%m-%d_%H%M%S")
    for number in range(1, 10_000):
        folder = parent / (time_name if number == 1 else f"{time_name}_{number}")
        try:
            _make(folder)
        except FileExistsError:
            if parent.is_dir():
                continue
            raise
        lock_run_folder(folder)
        return folder
    raise ValueError(f"{parent} holds ten thousand runs of {time_name}. Choose another --output-dir.")


def lock_run_folder(folder: Path) -> None:
    """Keep other processes from writing to the folder of a run until this one ends.

    Args:
        folder: It exists.

    Raises:
        ValueError: If another process has it.
        OSError: If it cannot be written to.
    """
    folder = folder.resolve()
    if folder in _LOCKS:
        return
    lock = FileLock(folder / _LOCK_FILE)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise ValueError(
            f"Another process is writing to {folder} at this moment. Wait for it, stop it, or start a run of your own."
        ) from None
    _LOCKS[folder] = lock


def release_run_folder(folder: Path) -> None:
    """Let others write to a folder, before this process ends; one that was made for a run that left nothing goes."""
    folder = folder.resolve()
    lock = _LOCKS.pop(folder, None)
    if lock is not None:
        _remove_unused(folder)
        lock.release()


@atexit.register
def _release_all() -> None:
    for folder in list(_LOCKS):
        release_run_folder(folder)


def _make(folder: Path, exist_ok: bool = False) -> None:
    missing = [place for place in (folder.absolute(), *folder.absolute().parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=exist_ok)
    _MADE[folder.resolve()] = missing


def _remove_unused(folder: Path) -> None:
    made = _MADE.pop(folder, [])
    with suppress(OSError):  # there is something in it, or it is gone
        if made and [path.name for path in folder.iterdir()] == [_LOCK_FILE]:
            (folder / _LOCK_FILE).unlink()
            for place in made:
                place.rmdir()
