"""Users' files: read and written whole, or refused in one line."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# What a clone without Git LFS has in the place of a large file.
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"


def require_file(path: Path) -> None:
    """Refuse what is no file with something in it.

    Args:
        path: The file.

    Raises:
        ValueError: If it is missing, a folder, empty, out of reach, or Git LFS has only left its pointer.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder. Pass the path of a file.")
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(len(_LFS_POINTER))
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist. Check the path.") from None
    except OSError as error:
        raise ValueError(f"Cannot read {path}: {error.strerror or error}.") from error
    if size == 0:
        raise ValueError(f"{path} is empty (0 bytes). Copy or download it again.")
    if start == _LFS_POINTER:
        raise ValueError(f"{path} is what Git LFS leaves in the place of a file. Fetch the file itself: git lfs pull.")


def require_ending(path: Path, endings: tuple[str, ...]) -> None:
    """Refuse a file by its name.

    Args:
        path: The file.
        endings: Those that are read, with the dot, in lower case.

    Raises:
        ValueError: If it has another one.
    """
    if path.suffix.lower() not in endings:
        raise ValueError(
            f"Cannot read {path}: the ending {path.suffix!r} is none of {', '.join(endings)}. Convert the file."
        )


def read_file(path: Path) -> bytes:
    """Content of a file.

    Raises:
        ValueError: If it is missing, a folder, empty or cannot be read.
    """
    require_file(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"Cannot read {path}: {error.strerror or error}.") from error


def as_text(content: bytes, errors: str = "replace") -> str:
    """Text of a file whose words are plain ASCII, whatever its names and comments are.

    Args:
        content: The file, in UTF-16 if its byte order mark says so.
        errors: What becomes of bytes that are no text, as of ``bytes.decode``.

    Returns:
        The text with lines that end in a line feed.
    """
    is_utf_16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = content.decode("utf-16" if is_utf_16 else "utf-8-sig", errors=errors)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def as_words(content: bytes) -> str:
    """:func:`as_text` of a file that is all words.

    Args:
        content: The file.

    Returns:
        The text, without the zero bytes that some programs leave at its end.

    Raises:
        ValueError: If there are others: a stretch of it has never been written, or copied.
    """
    text = as_text(content).rstrip("\0")
    if "\0" in text:
        raise ValueError("it is damaged: bytes of 0 are among its words. Copy or download it again.")
    return text


@contextmanager
def told_in_one_line(path: Path) -> Iterator[None]:
    """Turn what keeps a file from being written into a message for the user.

    Args:
        path: The file that is written inside.

    Raises:
        ValueError: In place of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise ValueError(
            f"Cannot write {path}: {error.strerror or error}. Choose a file in a folder that you may write to."
        ) from error
