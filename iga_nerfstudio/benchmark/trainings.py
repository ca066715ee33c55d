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
    """Run trainings with one thread each, in processes if there are several at once, and keep what came of them.

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
    finished = _one_by_one(missing) if jobs == 1 else _some_at_once(missing, jobs)
    for done, (path, outcome) in enumerate(finished, 1):
        tell(f"{done}/{len(missing)} {path.stem}: {figure} {outcome[figure]:.4g}")
    return [json.loads(path.read_text()) for path in trainings]


def _one_by_one(trainings: Mapping[Path, Callable[[], Outcome]]) -> Iterator[tuple[Path, Outcome]]:
    """In this process: another one would first have to start."""
    threads = torch.get_num_threads()
    try:
        for path, training in trainings.items():
            yield path, _train(training, path)
    finally:
        torch.set_num_threads(threads)


def _some_at_once(trainings: Mapping[Path, Callable[[], Outcome]], jobs: int) -> Iterator[tuple[Path, Outcome]]:
    with _one_thread_each(), ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(_train, training, path): path for path, training in trainings.items()}
        for future in as_completed(waiting):
            yield waiting[future], future.result()


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
