"""Trainings that are not run: what tests of studies give them in place of a sweep."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from iga_nerfstudio.benchmark.sweep import Outcome, Training


class Pretended:
    """Gives every training what a function of its labels says, and keeps what was asked for."""

    def __init__(self, outcome: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self.asked: list[Training] = []
        self._outcome = outcome

    def __call__(self, trainings: Sequence[Training]) -> list[Outcome]:
        self.asked += trainings
        return [dict(training.labels) | self._outcome(dict(training.labels)) for training in trainings]


def psnr(value: float) -> dict[str, Any]:
    """What a training of a photograph gives; half way it had two thirds of it."""
    return {"psnr": value, "best_psnr": value + 1, "curve": [[5, value / 1.5], [10, value]]}


def write_photographs(folder: Path, *names: str) -> Path:
    for i, name in enumerate(names):
        noise = np.random.default_rng(i).integers(0, 256, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{name}.png")
    return folder
