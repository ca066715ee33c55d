"""From the settings of a command line to its run. Command lines import it when there is something to train."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.progress import Progress

from iga_nerfstudio.stopping import INTERRUPTED
from iga_nerfstudio.tasks.config import ImageConfig, SDFConfig, SignalConfig, TaskConfig
from iga_nerfstudio.tasks.image import load_image_task
from iga_nerfstudio.tasks.run import execute
from iga_nerfstudio.tasks.sdf import ShapeTask, load_shape_task
from iga_nerfstudio.tasks.signal import load_signal_task
from iga_nerfstudio.tasks.task import Task


def launch(config: TaskConfig, console: Console, command: str) -> int:
    """Load the data, train, write the results.

    Args:
        config: Settings of one of the tasks.
        console: Where progress and results are shown.
        command: The command line, for the report.

    Returns:
        Exit status: 0, or 130 after Ctrl-C or SIGTERM.

    Raises:
        ValueError: If data or settings cannot be used.
        TrainingDiverged: If loss or weights are no longer finite.
    """
    return 0 if execute(config, _load, console, command) else INTERRUPTED


def _load(config: TaskConfig) -> Task[Any]:
    if isinstance(config, ImageConfig):
        return load_image_task(config)
    if isinstance(config, SignalConfig):
        return load_signal_task(config)
    if isinstance(config, SDFConfig):
        return _load_shape_watched(config)
    raise TypeError(f"There is no task of {type(config).__name__}.")


def _load_shape_watched(config: SDFConfig) -> ShapeTask:
    """Sample a mesh, which takes minutes at 512^3, under a progress bar."""
    with Progress(transient=True) as progress:
        bar = progress.add_task("sampling the mesh", total=1.0)
        return load_shape_task(config, lambda share: progress.update(bar, completed=share))
