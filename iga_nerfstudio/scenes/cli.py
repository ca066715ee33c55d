"""The ``iga-scene`` command: writes a built-in scene to a folder."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from iga_nerfstudio.scenes.blender_layout import write_demo_scene
from iga_nerfstudio.scenes.composition import SceneName
from iga_nerfstudio.terminal import forgiving_output


@dataclass(frozen=True)
class SceneOptions:
    """Render a built-in scene in the layout of the Blender NeRF-synthetic data set."""

    output_dir: Path = Path("data/demo")
    """Folder to write; a complete scene made with the same options is reused."""
    scene: SceneName = "lighthouse"
    """The lighthouse fills a good part of every view; the orrery is a thin object in empty space."""
    resolution: int = 100
    """Width and height of the images in pixels, at least 8."""
    num_train: int = 50
    """Number of training views, at least 1."""
    num_val: int = 4
    """Number of validation views."""
    num_test: int = 10
    """Number of test views."""


@forgiving_output()
def main(args: Sequence[str] | None = None) -> None:
    """Run the command.

    Args:
        args: Command line arguments, those of the process by default.

    Raises:
        SystemExit: With status 2 after printing what was wrong with the arguments.
    """
    options = tyro.cli(SceneOptions, prog="iga-scene", args=args)
    try:
        rendered = _write_with_progress(options)
    except ValueError as error:
        print(f"iga-scene: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    print(f"{'Wrote' if rendered else 'Already complete:'} {options.output_dir}")


def _write_with_progress(options: SceneOptions) -> bool:
    """Write the scene under a progress bar; False if there was nothing to render."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("Rendering views", total=None, visible=False)
        write_demo_scene(
            options.output_dir,
            resolution=options.resolution,
            num_train=options.num_train,
            num_val=options.num_val,
            num_test=options.num_test,
            on_view=lambda written, total: progress.update(task, completed=written, total=total, visible=True),
            scene=options.scene,
        )
        return progress.tasks[0].visible


if __name__ == "__main__":
    main()
