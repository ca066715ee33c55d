"""The pages."""

from pathlib import Path


def check_pages(results: Path, root: Path) -> int:
    raise NotImplementedError


def write_pages(results: Path, root: Path) -> None:
    raise NotImplementedError
