"""Commands get to their end on any terminal, and whoever reads what they print."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest

from iga_nerfstudio.terminal import forgiving_output


def test_characters_that_a_terminal_lacks_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", shown)
    with forgiving_output():
        print("30 \u00b1 1")
    assert shown.buffer.getvalue() == b"30 \\xb1 1\n"  # type: ignore[attr-defined]


@forgiving_output()
def show_help(lines: int) -> None:
    print("line\n" * lines)
    raise SystemExit(0)


@pytest.mark.parametrize("lines", [1, 100_000])
def test_a_reader_who_leaves_is_no_mistake(monkeypatch: pytest.MonkeyPatch, lines: int) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as pipe:
        monkeypatch.setattr("sys.stdout", pipe)
        with pytest.raises(SystemExit) as ended:
            show_help(lines)
    assert ended.value.code == 1


def test_nor_is_it_one_of_nerfstudio_s_commands() -> None:
    script = "import sys; sys.argv[0] = 'ns-train'; import iga_nerfstudio.nerf\nwhile True: print('step')"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 1
