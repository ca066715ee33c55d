"""What a terminal cannot show, or nobody reads to its end, is no reason to fail."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def escape_what_cannot_be_shown() -> None:
    """Print characters that the terminal's encoding lacks as their numbers, where Python would stop at them."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def forgiving_output() -> Iterator[None]:
    """For a command: any terminal will do, and a reader who leaves (``| head``) ends it without a stack.

    Raises:
        SystemExit: With status 1, where the reader has left.
    """
    escape_what_cannot_be_shown()
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        leave_output()
        sys.exit(1)


def leave_output() -> None:
    """Print nothing more, where nobody reads it: Python will flush once more when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
