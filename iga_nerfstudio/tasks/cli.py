"""``iga-image``, ``iga-sdf``, ``iga-signal``."""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import tyro
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import Progress

from iga_nerfstudio.allocator import reuse_host_memory
from iga_nerfstudio.divergence import TrainingDiverged
from iga_nerfstudio.stopping import INTERRUPTED
from iga_nerfstudio.tasks.config_files import AnyTask, read_preset
from iga_nerfstudio.tasks.image import ImageConfig, load_image_task
from iga_nerfstudio.tasks.run import CONFIG_FILE, execute
from iga_nerfstudio.tasks.sdf import SDFConfig, ShapeTask, load_shape_task
from iga_nerfstudio.tasks.signal import SignalConfig, load_signal_task
from iga_nerfstudio.tasks.task import Task


def image() -> None:
    """Entry point of ``iga-image``."""
    sys.exit(main(ImageConfig, load_image_task))


def sdf() -> None:
    """Entry point of ``iga-sdf``."""
    sys.exit(main(SDFConfig, _load_shape_watched))


def signal() -> None:
    """Entry point of ``iga-signal``."""
    sys.exit(main(SignalConfig, load_signal_task))


def main(kind: type[AnyTask], load: Callable[[AnyTask], Task[Any]], arguments: Sequence[str] | None = None) -> int:
    """Read the command line, train, write the results.

    Args:
        kind: The task's settings.
        load: Makes the task of them.
        arguments: The command line; the process's own if not given.

    Returns:
        Exit status: 0; 2 for a mistake of the user's, a full disk or a training that diverged, told in one line; 130
        after Ctrl-C or SIGTERM.
    """
    console = Console(stderr=False)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[RichHandler(console=console)])
    if arguments is None:  # the process is ours
        reuse_host_memory()
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        config = parse(kind, words)
        command = shlex.join([kind.task, *words])
        return 0 if execute(config, load, console, command) else INTERRUPTED
    except (ValueError, TrainingDiverged) as error:
        console.print(f"{kind.task}: {error}", style="red", markup=False, soft_wrap=True)
        return 2


def _load_shape_watched(config: SDFConfig) -> ShapeTask:
    """Sample a mesh, which takes minutes at 512^3, under a progress bar."""
    with Progress(transient=True) as progress:
        bar = progress.add_task("sampling the mesh", total=1.0)
        return load_shape_task(config, lambda share: progress.update(bar, completed=share))


def parse(kind: type[AnyTask], words: list[str]) -> AnyTask:
    """Settings from a command line.

    ``--config`` and ``--load-dir`` give the values that options not on the command line have.

    Args:
        kind: The task's settings.
        words: The command line.

    Returns:
        The settings.

    Raises:
        ValueError: If a preset, or the settings of the run to continue, cannot be read.
    """
    words = _with_value(words)
    given = _parse(kind, words, kind())
    if given.load_dir is not None and given.config is not None:
        raise ValueError("A run is continued with its own settings: give --load-dir or --config, not both.")
    if given.load_dir is not None:
        return _parse(kind, words, replace(read_preset(f"{given.load_dir}/{CONFIG_FILE}", kind), config=None))
    if given.config is not None:
        return _parse(kind, words, read_preset(given.config, kind))
    return given


def _with_value(words: list[str]) -> list[str]:
    """``--compare`` alone is ``--compare True``, as one would type it; all else has its value behind it."""
    following = [*words[1:], "-"]
    return [
        f"{word}=True" if word == "--compare" and after.startswith("-") else word
        for word, after in zip(words, following, strict=False)
    ]


def _parse(kind: type[AnyTask], words: list[str], default: AnyTask) -> AnyTask:
    """Settings from a command line; options that are not on it have their default's values."""
    # As nerfstudio's command lines: --adjustment.enabled False.
    return tyro.cli(kind, args=words, default=default, prog=kind.task, config=(tyro.conf.FlagConversionOff,))
