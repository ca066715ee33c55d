"""nerfstudio's own commands, called from Python: what the demo and the benchmarks run is what a user runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np

from iga_nerfstudio.evaluation.figures import read_side_by_side

# Folder, inside a run's, of the pictures that ns-eval writes.
TEST_VIEWS = "test_views"


class CommandError(RuntimeError):
    """A nerfstudio command failed."""


class OutOfTimeError(CommandError):
    """A command was asked to stop because its time was up."""


def run_command(
    name: str,
    *arguments: object,
    log: Path | None = None,
    seconds: float | None = None,
    threads: int | None = None,
) -> int:
    """Run one of nerfstudio's commands in a process of its own.

    Args:
        name: ``ns-train``, ``ns-eval``, ``ns-render``, ...
        arguments: Its arguments.
        log: File for its output; shown on the terminal if missing.
        seconds: When to ask it to stop, by SIGTERM: ns-train of our methods then saves.
        threads: Threads that it computes on, where it is not alone; what the environment says if missing.

    Returns:
        The most memory that the process had resident at once, in bytes.

    Raises:
        OutOfTimeError: If it was asked to stop, and did.
        CommandError: If it exits with an error; says where the log is.
    """
    if seconds is not None and seconds <= 0:
        raise OutOfTimeError(f"there was no time left to start {name}")
    command = [str(_executable(name)), *map(str, arguments)]
    # nerfstudio 1.1.5 on newer torch warns of indexing in every process.
    environment = os.environ | {"PYTHONWARNINGS": "ignore"}
    if threads is not None:
        environment |= {"OMP_NUM_THREADS": str(threads)}
    if log is None:
        code, peak, stopped = _wait(subprocess.Popen(command, env=environment), seconds)
    else:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w") as file:
            process = subprocess.Popen(command, env=environment, stdout=file, stderr=subprocess.STDOUT)
            code, peak, stopped = _wait(process, seconds)
    if code != 0 and stopped:
        raise OutOfTimeError(f"{name} was stopped when its time was up")
    if code != 0:
        raise CommandError(f"{name} exited with {code}. {'Its output is above.' if log is None else f'See {log}.'}")
    return peak


def _wait(process: subprocess.Popen[bytes], seconds: float | None) -> tuple[int, int, bool]:
    """Exit code, peak resident memory in bytes, whether time was up; the process dies with this one's interruption."""
    up = threading.Event()

    def stop() -> None:
        up.set()
        os.kill(process.pid, signal.SIGTERM)  # Popen's own would reap it

    clock = None if seconds is None else threading.Timer(seconds, stop)
    if clock is not None:
        clock.start()
    try:
        _, status, usage = os.wait4(process.pid, 0)
    except BaseException:
        process.kill()
        process.wait()
        raise
    finally:
        if clock is not None:
            clock.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    # Kilobytes, but bytes on macOS.
    return process.returncode, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024), up.is_set()


def train(
    method: str,
    settings: dict[str, object],
    parser: tuple[object, ...] = (),
    log: Path | None = None,
    threads: int | None = None,
) -> None:
    """Train with ns-train.

    Args:
        method: Name of the method.
        settings: Its options and their values.
        parser: The data parser's name and options, if they are not the method's own.
        log: File for the command's output; shown on the terminal if missing.
        threads: As of :func:`run_command`.

    Raises:
        CommandError: If ns-train fails.
    """
    words = (word for pair in settings.items() for word in pair)
    run_command("ns-train", method, *words, *parser, log=log, threads=threads)


def evaluate(run: Path, threads: int | None = None) -> dict[str, float]:
    """Evaluate a finished run with ns-eval; writes ``eval.json``, ``eval.log`` and ``test_views/`` into its folder.

    Args:
        run: The run's folder.
        threads: As of :func:`run_command`.

    Returns:
        nerfstudio's metrics, means over the test views.

    Raises:
        CommandError: If ns-eval fails.
    """
    places = ("--output-path", run / "eval.json", "--render-output-path", run / TEST_VIEWS)
    run_command("ns-eval", "--load-config", run / "config.yml", *places, log=run / "eval.log", threads=threads)
    results: dict[str, float] = json.loads((run / "eval.json").read_text())["results"]
    return results


def read_test_views(run: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Test views of an evaluated run: ground truth and fine rendering, ``(H, W, 3)`` in [0, 1] each."""
    pictures = sorted((run / TEST_VIEWS).glob("eval_img_*.png"))
    # The model's picture of a view: ground truth, fine rendering, coarse rendering.
    return [(truth, fine) for truth, fine, _coarse in (read_side_by_side(path, 3) for path in pictures)]


def _executable(name: str) -> Path | str:
    """The command of this very environment, also where that is not activated."""
    beside = Path(sys.executable).parent / name
    return beside if beside.exists() else name
