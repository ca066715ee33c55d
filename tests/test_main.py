"""What a report of a fault needs, whatever is broken."""

from __future__ import annotations

import re
import sys
from importlib.metadata import EntryPoint

import pytest

from iga_nerfstudio import __main__ as report
from iga_nerfstudio.version import __version__


def lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    monkeypatch.setattr(sys, "argv", ["iga_nerfstudio"])
    report.main()
    return dict(re.split(" {2,}", line, maxsplit=1) for line in capsys.readouterr().out.splitlines())


def test_all_parts_are_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    told = lines(monkeypatch, capsys)
    assert told["iga-nerfstudio"].startswith(f"{__version__}, ")
    assert told["python"] == sys.version.split()[0]
    assert re.match(r"\d+\.\d+", told["nerfstudio"])
    assert told["method iga-nerf"] == "registered, loads (IGATrainerConfig)"
    assert told["dataparser iga-blender"].startswith("registered, loads")
    assert {"device", "tinycudann", "gsplat", "LPIPS weights (AlexNet)", "ffmpeg", "chromium"} <= set(told)


def test_what_fails_is_a_line_and_the_others_follow(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = EntryPoint("iga-nerf", "iga_nerfstudio.nowhere:iga_nerf", "nerfstudio.method_configs")
    monkeypatch.setattr(report, "entry_points", lambda group: [broken] if "method" in group else [])
    monkeypatch.setattr(report, "PACKAGES", ("no-such-package",))
    monkeypatch.setattr(report, "machine", lambda: 1 / 0)
    monkeypatch.setattr(report, "OPTIONAL", ("no_such_module",))
    monkeypatch.setattr(report.shutil, "which", lambda name: None)
    told = lines(monkeypatch, capsys)
    assert told["no-such-package"] == told["no_such_module"] == "not installed"
    assert told["device"] == "FAILS with ZeroDivisionError: division by zero"
    assert told["method iga-nerf"] == "FAILS with ModuleNotFoundError: No module named 'iga_nerfstudio.nowhere'"
    assert told["dataparsers"].startswith("NOT REGISTERED")
    assert told["chromium"].startswith("not found")
