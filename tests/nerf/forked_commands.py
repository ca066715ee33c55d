"""nerfstudio's commands as forks of one process that has imported them, which takes longer than most of them run.

Such a process reads a JSON object a line: words of the command, and files for what it prints. It answers with the exit
status, negative for a signal.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

# No GPU, and no line of a message broken.
ENVIRONMENT = os.environ | {"COLUMNS": "200", "CUDA_VISIBLE_DEVICES": ""}
MODULES = {"ns-train": "nerfstudio.scripts.train", "ns-eval": "nerfstudio.scripts.eval"}


class ForkedCommands:
    """Runs commands one after another; in all but their start as they are run from a shell."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
        )

    def run(self, *words: object) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        command = list(map(str, words))
        files = [self.folder / name for name in ("stdout", "stderr")]
        print(json.dumps([command, *map(str, files)]), file=self.process.stdin, flush=True)
        status = int(self.process.stdout.readline())
        return subprocess.CompletedProcess(command, status, *(file.read_text() for file in files))

    def stop(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.communicate()


def next_command(answers: Any) -> list[str] | None:
    """In a fork, the command that it is to run; in the process itself None, when there are no more."""
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            words: list[str]
            words, *files = json.loads(line)
            for number, file in zip((1, 2), files, strict=True):
                os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            return words
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=answers, flush=True)
    return None


if __name__ == "__main__":
    sys.argv = ["ns-train"]  # the plugin looks whose process it is in
    entries = {name: import_module(module).entrypoint for name, module in MODULES.items()}
    # Whatever is printed at import is no answer.
    answers = os.fdopen(os.dup(1), "w")
    command = next_command(answers)
    if command is not None:
        sys.argv = command
        sys.exit(entries[command[0]]())
