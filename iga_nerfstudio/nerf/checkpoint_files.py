"""The checkpoints of a run's folder: which there are, and which one is meant."""

from __future__ import annotations

import re
from pathlib import Path


def checkpoints_in(folder: Path) -> list[Path]:
    """Checkpoints in a folder, oldest first."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if re.fullmatch(r"step-\d+\.ckpt", path.name))


def step_of(path: Path) -> int:
    return int(path.stem.removeprefix("step-"))


def step_to_read(folder: Path, step: int | None) -> int:
    """The step of the checkpoint that a command is to read: the one that a run's settings name, or else the latest.

    Raises:
        ValueError: If there is none.
    """
    steps = [step_of(path) for path in checkpoints_in(folder)]
    if not steps:
        raise ValueError(
            f"{folder} holds no checkpoint (step-*.ckpt). Train the run first, or put its checkpoint there."
        )
    if step is not None and step not in steps:
        there = ", ".join(map(str, steps[-5:]))
        raise ValueError(f"{folder} holds no checkpoint of step {step}, load_step in config.yml. There are: {there}.")
    return steps[-1] if step is None else step


def require_latest(folder: Path, step: int | None) -> None:
    """Refuse to take a run up at a step before its last: what came after would pass for what comes now.

    Raises:
        ValueError: If there are later checkpoints.
    """
    later = [path.name for path in checkpoints_in(folder) if step is not None and step_of(path) > step]
    if later:
        raise ValueError(
            f"--load-step {step}: {folder} holds {', '.join(later[-5:])}, which would pass for what comes now. Give "
            "--timestamp with another name to go on in a run of its own, or put them elsewhere."
        )


def other_steps(path: Path) -> str:
    """A hint at other checkpoints beside one, or nothing."""
    others = [other for other in checkpoints_in(path.parent) if other != path]
    if not others:
        return ""
    steps = ", ".join(str(step_of(other)) for other in others[-5:])
    return f" Others beside it are untouched; choose one with --load-step: {steps}."
