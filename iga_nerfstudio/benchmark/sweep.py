"""Many trainings, some at once, none twice: each of one complete configuration, each with a record of its own."""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime, timedelta, timezone
from enum import Enum
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from iga_nerfstudio.benchmark.record import provenance
from iga_nerfstudio.divergence import TrainingDiverged
from iga_nerfstudio.files import write_text
from iga_nerfstudio.settings import earlier_values
from iga_nerfstudio.tasks.trainer import Record
from iga_nerfstudio.version import __version__

# What came of a training: numbers, JSON types only.
Outcome = dict[str, Any]

# Settings that name places and times, or ask for another run beside this one, and decide nothing.
PLACES = (
    *("compare", "deadline", "output_dir", "cache_dir", "experiment_name", "timestamp"),
    *("relative_log_dir", "relative_model_dir"),
)
# Letters of a key in a record's file name.
_SHORT = 12


@dataclass(frozen=True)
class Training:
    """One training."""

    labels: Mapping[str, Any]  # What distinguishes it from the others of its study; JSON types.
    # A function of a module, called with the configuration; gives numbers, among them ``figure``, and raises
    # TrainingDiverged. Together with the configuration it decides the result. Where there is none, because a program
    # failed, it gives ``failed`` with the reason: that is not kept, and so tried again another time.
    run: Callable[[Any], Outcome]
    configuration: Any  # All of its settings: dataclasses, mappings, sequences, numbers, text, files and folders.
    figure: str = "psnr"  # The number to tell of.

    @property
    def key(self) -> str:
        """A hash of all that decides the result: settings, contents of the data, device, version of the method."""
        decisive = {
            "run": f"{self.run.__module__}.{self.run.__qualname__}",
            "configuration": as_plain(self.configuration),
            "gpu": torch.cuda.is_available(),
            "version": __version__,
        }
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()

    @property
    def name(self) -> str:
        """For files and messages."""
        words = (format(value, "g") if isinstance(value, float) else str(value) for value in self.labels.values())
        return "-".join(words).replace(" ", "_").replace("/", "_").replace(",", "")


def as_plain(value: Any) -> Any:
    """Settings as JSON types, of one meaning each: files and folders by their contents, classes by name."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path):
        return _content_of(value)
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if isinstance(value, Enum):
        return value.name
    if is_dataclass(value) and not isinstance(value, type):
        named = {field.name: getattr(value, field.name) for field in fields(value) if field.name not in PLACES}
        # A setting that came later says what it was in all trainings before: their keys stay.
        for name, earlier in earlier_values(value).items():
            if named[name] == earlier:
                del named[name]
        return {"class": type(value).__qualname__} | as_plain(named)
    if isinstance(value, Mapping):
        return {str(key): as_plain(part) for key, part in value.items() if key not in PLACES}
    if isinstance(value, Sequence):
        return [as_plain(part) for part in value]
    if callable(value):
        return f"{value.__module__}.{value.__qualname__}"
    raise TypeError(f"A training's settings hold {value!r} of type {type(value)}, whose meaning has no plain form.")


def _content_of(path: Path) -> str:
    """A checksum of a file, or of all files of a folder with their names; the name of what does not exist.

    What trainings leave in a scene's folder is no part of it: smaller copies of images, and files half written.
    """
    if path.is_dir():
        parts = sorted(part for part in path.rglob("*") if part.is_file() and not _is_left(part.relative_to(path)))
        names = [f"{part.relative_to(path)} {_checksum(part, *_stamp(part))}" for part in parts]
        return hashlib.sha256("\n".join(names).encode()).hexdigest()
    return _checksum(path, *_stamp(path)) if path.is_file() else str(path)


def _is_left(path: Path) -> bool:
    return any(name.startswith((".", "downscaled_")) for name in path.parts)


def _stamp(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


@cache
def _checksum(path: Path, size: int, time_ns: int) -> str:
    """Of a file as it was at some time: many trainings read the same ones."""
    del size, time_ns
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def train_all(
    trainings: Sequence[Training], records: Path, jobs: int, tell: Callable[[str], None] = print
) -> list[dict[str, Any]]:
    """Run trainings with one thread each, in processes if there are several at once, and keep a record of each.

    A training that has a record of its key is not run again, so an interrupted measurement goes on where it stopped,
    whenever and in whatever order. Tells of every finished one, how many are left, and how long they will take.

    Returns:
        What came of each, in order: its labels, its numbers or ``diverged`` or ``failed`` with the reason, the record's
        ``key``, and ``provenance`` of the process that trained it.
    """
    keys = [training.key for training in trainings]
    keyed = dict(zip(keys, trainings, strict=True))
    # By key alone: another study may have run the same training under another name.
    there = {path.stem[-_SHORT:]: path for path in records.glob("*.json")}
    paths = {
        key: there.get(key[:_SHORT], records / f"{training.name}-{key[:_SHORT]}.json")
        for key, training in keyed.items()
    }
    missing = [(key, training, paths[key]) for key, training in keyed.items() if not paths[key].exists()]
    start = time.monotonic()
    records_now = _one_by_one(missing) if jobs == 1 else _some_at_once(missing, jobs)
    failed = {}
    for done, record in enumerate(records_now, 1):
        figure = keyed[record["key"]].figure
        if record["diverged"]:
            result = f"diverged ({record['diverged']})"
        elif "failed" in record["outcome"]:
            failed[record["key"]] = record
            result = f"failed ({record['outcome']['failed']})"
        else:
            result = f"{record['outcome'][figure]:.4g}"
        left = timedelta(seconds=round((time.monotonic() - start) / done * (len(missing) - done)))
        tell(f"{done}/{len(missing)}, {left} left: {keyed[record['key']].name} {figure} {result}")
    return [
        _came_of(training, failed[key] if key in failed else json.loads(paths[key].read_text(encoding="utf-8")))
        for key, training in zip(keys, trainings, strict=True)
    ]


def _came_of(training: Training, record: dict[str, Any]) -> Outcome:
    numbers = {"diverged": record["diverged"]} if record["outcome"] is None else record["outcome"]
    labels = dict(training.labels)
    # Its own labels: of two trainings that are the same one is run, and among its numbers there may be its labels.
    return labels | numbers | labels | {"key": record["key"], "provenance": record["provenance"]}


def _one_by_one(trainings: Sequence[tuple[str, Training, Path]]) -> Iterator[dict[str, Any]]:
    """In this process: another one would first have to start."""
    threads = torch.get_num_threads()
    try:
        for training in trainings:
            yield _train(*training)
    finally:
        torch.set_num_threads(threads)


def _some_at_once(trainings: Sequence[tuple[str, Training, Path]], jobs: int) -> Iterator[dict[str, Any]]:
    with one_thread_each(), ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for future in as_completed([pool.submit(_train, *training) for training in trainings]):
            yield future.result()


def _train(key: str, training: Training, path: Path) -> dict[str, Any]:
    """Run one and write its record, unless it failed."""
    torch.set_num_threads(1)
    started = datetime.now(timezone.utc)
    # Before it runs: nerfstudio's classes complete the settings that they are given.
    configuration = as_plain(training.configuration)
    outcome, diverged = None, None
    try:
        outcome = training.run(training.configuration)
        _require_finite(outcome)
    except TrainingDiverged as error:
        outcome, diverged = None, str(error)
    record = {
        "key": key,
        "labels": dict(training.labels),
        "configuration": configuration,
        "outcome": outcome,
        "diverged": diverged,
        "provenance": provenance() | {"started": started.isoformat(timespec="seconds")},
    }
    if outcome is None or "failed" not in outcome:
        write_text(path, json.dumps(record, indent=2, allow_nan=False) + "\n")
    return record


def whole(record: Record) -> Record:
    """The record of a training that no signal cut short: half a training is no result, so the sweep ends with it."""
    if record.interrupted:
        raise KeyboardInterrupt
    return record


def _require_finite(outcome: Outcome) -> None:
    """Numbers that are not finite are in no mean, and JSON has none: such a training has diverged."""
    for name, value in outcome.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise TrainingDiverged(f"{name} is {value} after the last step")


def one_thread_each() -> AbstractContextManager[Any]:
    """Let processes started meanwhile have one thread: two trainings so get more done than one with two threads."""
    return patch.dict(os.environ, OMP_NUM_THREADS="1")
