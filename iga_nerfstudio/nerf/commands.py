"""nerfstudio's own commands, called from Python: what the demo and the benchmarks run is what a user runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import torch


class CommandError(RuntimeError):
    """A nerfstudio command failed."""


def default_device() -> str:
    """``"cuda"`` where there is a GPU, ``"cpu"`` elsewhere."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def run_command(name: str, *arguments: object, log: Path | None = None) -> None:
    """Run one of nerfstudio's commands in a process of its own.

    Args:
        name: ``ns-train``, ``ns-eval``, ``ns-render``, ...
        arguments: Its arguments.
        log: File for its output; shown on the terminal if missing.

    Raises:
        CommandError: If it exits with an error; says where the log is.
    """
    command = [str(_executable(name)), *map(str, arguments)]
    # nerfstudio 1.1.5 on newer torch warns of indexing in every process.
    environment = os.environ | {"PYTHONWARNINGS": "ignore"}
    if log is None:
        code = subprocess.run(command, env=environment).returncode
    else:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w") as file:
            code = subprocess.run(command, env=environment, stdout=file, stderr=subprocess.STDOUT).returncode
    if code != 0:
        raise CommandError(f"{name} exited with {code}. {'Its output is above.' if log is None else f'See {log}.'}")


def evaluate(config: Path, pictures: Path | None = None, log: Path | None = None) -> dict[str, float]:
    """Evaluate a finished run with ns-eval.

    Args:
        config: The run's ``config.yml``.
        pictures: Folder for its test views, each beside its ground truth, if wanted.
        log: File for the command's output.

    Returns:
        nerfstudio's metrics, means over the test views.

    Raises:
        CommandError: If ns-eval fails.
    """
    output = config.parent / "eval.json"
    extra = () if pictures is None else ("--render-output-path", pictures)
    run_command("ns-eval", "--load-config", config, "--output-path", output, *extra, log=log)
    results: dict[str, float] = json.loads(output.read_text())["results"]
    return results


def _executable(name: str) -> Path | str:
    """The command of this very environment, also where that is not activated."""
    beside = Path(sys.executable).parent / name
    return beside if beside.exists() else name
