"""The measurements measure, and the pages say what the files say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from iga_nerfstudio.benchmark.record import write_result
from iga_nerfstudio.benchmark.report import PAGES, render_report, write_report

ROOT = Path(__file__).parent.parent.parent


def test_a_result_says_where_it_comes_from(tmp_path):
    write_result(tmp_path / "new" / "figure.json", {"speed": 3.5})
    written = json.loads((tmp_path / "new" / "figure.json").read_text())
    assert written["figures"] == {"speed": 3.5}
    assert {"command", "commit", "machine", "versions", "finished", "uncommitted_changes"} == set(written["provenance"])
    assert written["provenance"]["versions"]["torch"]
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="cannot be written"):
        write_result(tmp_path / "file" / "figure.json", {})


@pytest.mark.parametrize("name", PAGES)
def test_pages_are_those_of_the_committed_results(name):
    page = ROOT / "docs" / f"{name}.md"
    render, _ = PAGES[name]
    assert (page.read_text() if page.exists() else None) == render(ROOT / "benchmarks" / "results")


def test_a_report_without_results_says_what_to_do(tmp_path):
    assert render_report(tmp_path) is None
    with pytest.raises(ValueError, match="Measure first"):
        write_report(tmp_path, tmp_path / "docs")


def test_the_command_fails_in_one_line(tmp_path):
    command = Path(sys.executable).parent / "iga-bench"
    result = subprocess.run(
        [command, "report", "--results", tmp_path, "--output", tmp_path / "page.md"], capture_output=True, text=True
    )
    assert result.returncode == 2
    assert "Measure first" in result.stdout
    assert "Traceback" not in result.stdout + result.stderr
