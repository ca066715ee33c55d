"""Trains with ns-train in processes of its own that are killed, resumed, and killed again; run by test_resuming.py.

One process imports nerfstudio, which takes longer than all the steps; the trainings are forks of it.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nerfstudio.scripts.train as ns_train

from iga_nerfstudio import files
from iga_nerfstudio.nerf.trainer import IGATrainer


def die(*_args: Any, **_settings: Any) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def on_call(number: int, function: Callable[..., Any], otherwise: Callable[..., Any]) -> Callable[..., Any]:
    """Calls ``function`` the number-th time, and something else before."""
    calls = [0]

    def wrapped(*args: Any, **settings: Any) -> Any:
        calls[0] += 1
        return (function if calls[0] == number else otherwise)(*args, **settings)

    return wrapped


def half_written(path: Path, content: Any) -> None:
    path.write_bytes(bytes(content)[: len(content) // 2])
    die()


def kill_in_step(number: int) -> None:
    IGATrainer.train_iteration = on_call(number, die, IGATrainer.train_iteration)  # type: ignore[method-assign]


def kill_while_writing(number: int) -> None:
    """In the middle of the number-th checkpoint."""
    Path.write_bytes = on_call(number, half_written, Path.write_bytes)  # type: ignore[method-assign]


def kill_before_replacing(number: int) -> None:
    """When the number-th checkpoint is whole but not in its place; config.yml is written in the same way."""
    files.os.replace = on_call(number + 1, die, os.replace)


def nobody(_number: int) -> None:
    """Let it live."""


def run(words: list[str], log: Path, kill: Callable[[int], None], number: int) -> int:
    """Train in a fork; its exit status, negative for a signal."""
    child = os.fork()
    if child == 0:
        with log.open("w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        kill(number)
        sys.argv = ["ns-train", *words]
        ns_train.entrypoint()
        sys.stdout.flush()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main() -> None:
    method, steps, folder, *words = sys.argv[1:]
    base = [method, "--output-dir", folder, "--max-num-iterations", steps, *words]
    at, bar = base.index("--"), len(base)
    options, parser = base[:at], base[at + 1 : bar]

    def train(name: str, more: list[str], kill: Callable[[int], None] = nobody, number: int = 0) -> int:
        return run([*options, "--timestamp", name, *more, *parser], Path(folder) / f"{name}.log", kill, number)

    assert train("whole", []) == 0
    models = str(Path(folder) / "resumed" / method / "parts" / "nerfstudio_models")
    resume = ["--load-dir", models]
    statuses = [
        train("parts", [], kill_in_step, 6),
        train("parts", resume, kill_while_writing, 2),
        train("parts", resume, kill_before_replacing, 1),
        train("parts", resume, kill_in_step, 4),
        train("parts", resume),
    ]
    print(statuses)


if __name__ == "__main__":
    main()
