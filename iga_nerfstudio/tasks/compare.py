"""The plain run beside an adjusted one: its settings, and what the two come to."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from iga_nerfstudio.tasks.config import TaskConfig
from iga_nerfstudio.tasks.config_files import AnyTask

# Folder of the plain run, in that of the adjusted one.
PLAIN = "plain"
# Settings that decide what a training comes to, besides its data.
_DECISIVE = ("network", "adjustment", "optimizer", "schedule", "machine", "max_num_iterations")
# How metrics are written, and their unit.
_NAMES = {"psnr": ("PSNR", " dB"), "iou": ("IoU", "")}


def plain_settings(config: AnyTask, load_dir: Path | None) -> AnyTask:
    """The settings of the plain run: the same with the adjustment off.

    Args:
        config: Those of the adjusted run.
        load_dir: The plain run to continue; None begins one.
    """
    adjustment = replace(config.adjustment, enabled=False)
    return replace(config, adjustment=adjustment, compare=False, load_dir=load_dir)


def require_adjustment(config: TaskConfig) -> None:
    """Refuse to compare a plain run with itself.

    Raises:
        ValueError: If the adjustment is off.
    """
    if not config.adjustment.enabled or config.adjustment.end == 0:
        off = "--adjustment.end is 0" if config.adjustment.enabled else "--adjustment.enabled is False"
        raise ValueError(f"--compare puts the plain run beside an adjusted one, but {off}. Leave out one of the two.")


def require_same_settings(config: TaskConfig, before: TaskConfig) -> None:
    """Refuse to begin a plain run in other settings than the adjusted one was begun in.

    Args:
        config: Settings of the run as it is continued.
        before: Settings of the run until now.

    Raises:
        ValueError: If they differ in what decides a training.
    """
    changed = [name for name in _DECISIVE if getattr(config, name) != getattr(before, name)]
    if changed:
        raise ValueError(
            f"--compare begins a plain run with the settings of the one in --load-dir, but {', '.join(changed)} "
            "would be others from now on. Leave those options out, or start a new run with --compare."
        )


def sentence(metric: str, plain: float, adjusted: float, steps: int) -> str:
    """Both final numbers in a sentence.

    Args:
        metric: Name of the metric, of which more is better.
        plain: The plain run's.
        adjusted: The adjusted run's.
        steps: Steps of each.
    """
    name, unit = _NAMES.get(metric, (metric, ""))
    digits = 2 if unit else 4
    gain = adjusted - plain
    more = f": {abs(gain):.{digits}f}{unit} {'more' if gain >= 0 else 'less'}" if math.isfinite(gain) else ""
    return (
        f"After {steps} steps each, {name} is {plain:.{digits}f}{unit} plain and {adjusted:.{digits}f}{unit} "
        f"adjusted{more}."
    )
