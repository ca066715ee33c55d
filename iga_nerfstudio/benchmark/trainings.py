"""Many small trainings, some at once, none twice."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from iga_nerfstudio.files import write_text

# What came of a training: numbers and settings, JSON types only.
Outcome = dict[str, Any]


def train_all(
    trainings: Mapping[Path, Callable[[], Outcome]], jobs: int, tell: Callable[[str], None], figure: str = "psnr"
) -> list[Outcome]:
    """Run trainings in processes of one thread each and keep what came of them.

    Args:
        trainings: What to run, by the JSON file that keeps its outcome; can be pickled. A training whose file exists
            is not run again, so an interrupted measurement goes on where it stopped.
        jobs: How many at once.
        tell: Told about every finished training.
        figure: Which of its figures.

    Returns:
        The outcomes, in order.
    """
    missing = {path: training for path, training in trainings.items() if not path.exists()}
    with _one_thread_each(), ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(_train, training, path): path for path, training in missing.items()}
        for done, future in enumerate(as_completed(waiting), 1):
            tell(f"{done}/{len(waiting)} {waiting[future].stem}: {figure} {future.result()[figure]:.4g}")
    return [json.loads(path.read_text()) for path in trainings]


def _train(training: Callable[[], Outcome], path: Path) -> Outcome:
    """Run one and write down what came of it."""
    torch.set_num_threads(1)
    outcome = training()
    write_text(path, json.dumps(outcome, indent=2) + "\n")
    return outcome


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Let processes started meanwhile have one thread: two trainings so get more done than one with two threads."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before
