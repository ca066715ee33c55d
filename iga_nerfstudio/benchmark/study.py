"""What all measurements have in common: settings, which are their command line, figures, and a section of a page."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

from iga_nerfstudio.benchmark.sweep import Outcome, Training

# Settings and what was measured; JSON types only.
Figures = dict[str, Any]
# Runs trainings that have not been run, and gives what came of all, in order.
Train = Callable[[Sequence[Training]], list[Outcome]]


@dataclass(frozen=True)
class Study(ABC):
    """A measurement. Its fields are its settings; options of the command line are made from them."""

    # Of its command and its results.
    name: ClassVar[str]

    @abstractmethod
    def measure(self, train: Train) -> Figures:
        """What there is to measure. A study is a list of trainings, or times something itself.

        A setting that cannot be used, or what it names, is a ValueError.
        """

    @classmethod
    @abstractmethod
    def section(cls, figures: Figures, stem: str) -> str:
        """A section of Markdown about figures, whose pictures' names begin with ``stem``."""

    @classmethod  # noqa: B027
    def draw(cls, figures: Figures, path: Path) -> None:
        """Draw the pictures of a section; their names begin with the path's."""

    @classmethod
    def gains(cls, figures: Figures) -> list[list[str]]:
        """Rows of README's table: what was trained, and Adam, Adam + IGA, Muon, Muon + IGA on it."""
        return []

    def settings(self) -> Figures:
        """The settings as JSON types; data by their names."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return value.name
    return [_plain(part) for part in value] if isinstance(value, tuple) else value
