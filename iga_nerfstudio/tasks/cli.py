"""``iga-image``, ``iga-sdf``, ``iga-signal``."""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace

import tyro
from rich.console import Console
from rich.logging import RichHandler

from iga_nerfstudio.allocator import reuse_host_memory
from iga_nerfstudio.arguments import option_values
from iga_nerfstudio.divergence import TrainingDiverged
from iga_nerfstudio.stopping import INTERRUPTED
from iga_nerfstudio.tasks.config import ImageConfig, SDFConfig, SignalConfig
from iga_nerfstudio.tasks.config_files import AnyTask, read_preset, read_run
from iga_nerfstudio.terminal import forgiving_output


@forgiving_output()
def image() -> None:
    """Entry point of ``iga-image``."""
    sys.exit(main(ImageConfig))


@forgiving_output()
def sdf() -> None:
    """Entry point of ``iga-sdf``."""
    sys.exit(main(SDFConfig))


@forgiving_output()
def signal() -> None:
    """Entry point of ``iga-signal``."""
    sys.exit(main(SignalConfig))


def main(kind: type[AnyTask], arguments: Sequence[str] | None = None) -> int:
    """Read the command line, train, write the results.

    Args:
        kind: The task's settings.
        arguments: The command line; the process's own if not given.

    Returns:
        Exit status: 0; 2 for a mistake of the user's, a full disk or a training that diverged, told in one line; 130
        after Ctrl-C or SIGTERM, and after Ctrl-C before or behind the training, or a second one within, which is told
        in one line too.
    """
    console = Console(stderr=False)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[RichHandler(console=console)])
    if arguments is None:  # the process is ours
        reuse_host_memory()
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        config = parse(kind, words)
        # Not before: it imports torch and all that trains, for which neither --help nor a mistake should wait.
        from iga_nerfstudio.tasks.launch import launch

        return launch(config, console, shlex.join([kind.task, *words]))
    except (ValueError, TrainingDiverged) as error:
        console.print(f"{kind.task}: {error}", style="red", markup=False, soft_wrap=True)
        return 2
    except KeyboardInterrupt:
        console.print(
            f"{kind.task}: Stopped at once. A run that has a checkpoint goes on with {kind.task} --load-dir and its "
            "folder; one that had taken all its steps writes its results then.",
            markup=False,
            soft_wrap=True,
        )
        return INTERRUPTED


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
        default = replace(read_run(given.load_dir, kind), config=None)
    elif given.config is not None:
        default = read_preset(given.config, kind)
    else:
        return given
    epochs = getattr(given, "num_epochs", None)
    if isinstance(default, SDFConfig) and epochs is None and option_values(words, "--max-num-iterations"):
        # Else the file's epochs would take the place of the steps that are asked for.
        default = replace(default, num_epochs=None)
    return _parse(kind, words, default)


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
