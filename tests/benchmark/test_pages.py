"""Results say where they come from, pages say what results say, and the command line is made of settings."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

import pytest
import trimesh
import tyro

from iga_nerfstudio.benchmark import cli, pages
from iga_nerfstudio.benchmark.cli import commands, main
from iga_nerfstudio.benchmark.cost.step import Step
from iga_nerfstudio.benchmark.pages import Pages
from iga_nerfstudio.benchmark.record import read_results, write_result
from iga_nerfstudio.benchmark.registry import KINDS, MEASUREMENTS, STUDIES
from iga_nerfstudio.benchmark.study import Figures, Study, Train
from iga_nerfstudio.benchmark.sweep import train_all
from tests.benchmark.studies import write_photographs
from tests.benchmark.test_sweep import trainings

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Squares(Study):
    """Squares of numbers.

    Attributes:
        numbers: What to square.
    """

    name: ClassVar[str] = "squares"
    numbers: tuple[int, ...] = (2, 3)

    def measure(self, train: Train) -> Figures:
        return {"trainings": train(trainings(*self.numbers))}

    @classmethod
    def section(cls, figures: Figures, stem: str) -> str:
        return f"## Up to {max(figures['numbers'])}\n\nSquares {[run.get('psnr') for run in figures['trainings']]}.\n"

    @classmethod
    def draw(cls, figures: Figures, path: Path) -> None:
        path.with_name(f"{path.name}.png").write_bytes(b"picture")

    @classmethod
    def gains(cls, figures: Figures) -> list[list[str]]:
        return [["squares", "1.00", f"{figures['trainings'][0]['psnr']:.2f}", "", ""]]


def place(name: str) -> str:
    """A page's place for a measurement."""
    return f"<!-- iga-bench: {name} -->\nold\n<!-- end of iga-bench -->\n"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of one page, measured."""
    monkeypatch.setattr(pages, "KINDS", {"squares": Squares, "step": Step})
    measure(tmp_path, Squares())
    (tmp_path / "README.md").write_text(f"# Project\n\n{place('gains')}\nend\n")
    page = tmp_path / "docs" / "results" / "squares.md"
    page.parent.mkdir(parents=True)
    page.write_text(f"# Squares\n\nText.\n\n{place('squares')}")
    Pages(tmp_path / "results", tmp_path).write()
    return tmp_path


def measure(root: Path, study: Study) -> None:
    figures = study.measure(lambda asked: train_all(asked, root / "records", 1, lambda _: None))
    write_result(root / "results" / f"{study.name}.json", study.settings() | figures)


def test_a_result_says_where_it_comes_from_and_has_a_line_for_every_training(tmp_path: Path) -> None:
    measure(tmp_path, Squares())
    text = (tmp_path / "results" / "squares.json").read_text()
    written = json.loads(text)
    assert written["figures"]["numbers"] == [2, 3]
    assert {"command", "commit", "machine", "versions", "finished", "uncommitted_changes"} == set(written["provenance"])
    assert len([line for line in text.splitlines() if line.startswith('{"number"')]) == 2
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="cannot be written"):
        write_result(tmp_path / "file" / "figure.json", {})


def test_a_page_is_its_own_prose_and_what_results_say(root: Path) -> None:
    text = (root / "docs" / "results" / "squares.md").read_text()
    assert text.startswith("# Squares\n\nText.\n\n<!-- iga-bench: squares -->\n## Up to 3\n\nSquares [4, 9].")
    assert "old" not in text
    commit = json.loads((root / "results" / "squares.json").read_text())["provenance"]["commit"][:10]
    assert re.search(rf"commit {commit}, trained at {commit}.*Data: `squares.json`, 2 trainings\.", text)
    assert (root / "docs" / "results" / "squares.png").read_bytes() == b"picture"
    assert (root / "README.md").read_text() == (
        "# Project\n\n<!-- iga-bench: gains -->\n|  | Adam | Adam + IGA | from |\n| --- | --- | --- | --- |\n"
        "| squares | 1.00 | 4.00 | [squares](docs/results/squares.md) |\n<!-- end of iga-bench -->\n\nend\n"
    )


def test_one_that_diverged_is_counted_below(root: Path) -> None:
    measure(root, Squares((2, 13)))
    Pages(root / "results", root).write()
    text = (root / "docs" / "results" / "squares.md").read_text()
    assert "1 of 2 trainings diverged; no mean counts them." in text


def test_a_page_that_says_something_else_is_found(root: Path) -> None:
    results, page, readme = root / "results", root / "docs" / "results" / "squares.md", root / "README.md"
    assert Pages(results, root).check() == 2
    page.write_text(page.read_text().replace("[4, 9]", "[4, 8]"))
    with pytest.raises(ValueError, match=r"squares.md:\d+: it says 'Squares \[4, 8\].', the results say .*\[4, 9\]"):
        Pages(results, root).check()
    Pages(results, root).write()
    readme.write_text(readme.read_text().replace("4.00", "5.00"))
    with pytest.raises(ValueError, match=r"README.md:6"):
        Pages(results, root).check()
    page.write_text("# Squares\n")
    with pytest.raises(ValueError, match=r"No page under .* has a place for squares.json"):
        Pages(results, root)
    readme.write_text(place("cubes"))
    page.write_text(place("squares"))
    with pytest.raises(ValueError, match=r"There is no measurement cubes, whose block is in .*README.md"):
        Pages(results, root).check()
    (results / "squares.json").rename(results / "other.json")
    with pytest.raises(ValueError, match=r"There is no result in .*Measure first"):
        Pages(results, root)


def test_the_committed_pages_are_those_of_the_committed_results() -> None:
    results = ROOT / "benchmarks" / "results"
    assert Pages(results, ROOT).check() > 5
    on_pages = [path for name in KINDS for path, _ in read_results(results, name)]
    assert sorted(on_pages) == sorted(results.iterdir())  # each on one, and no other is there


def test_the_command_fails_in_one_line(tmp_path: Path) -> None:
    command = Path(sys.executable).parent / "iga-bench"
    result = subprocess.run([command, "report", "--results", tmp_path], capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 2
    assert "Measure first" in result.stdout
    assert "Traceback" not in result.stdout + result.stderr


def chosen(line: str) -> Any:
    """The command that a line names, from its settings alone."""
    return tyro.cli(commands(), args=line.split())


@pytest.mark.parametrize("name", KINDS)
def test_every_setting_is_an_option(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for size, study in STUDIES.get(name, {"": MEASUREMENTS.get(name)}).items():
        with pytest.raises(SystemExit):
            chosen(f"{name.replace('_', '-')} {size} --help")
        text = capsys.readouterr().out
        assert all(f"--{field.name.replace('_', '-')}" in text for field in fields(study))


def test_options_override_a_size() -> None:
    command = chosen("images cpu --data d --max-side 48 --variants plain iga --seeds 7 8 --jobs 3")
    assert (command.study.max_side, command.study.variants, command.study.seeds) == (48, ("plain", "iga"), (7, 8))
    assert (command.study.hidden_dim, command.jobs, command.output) == (64, 3, None)
    command = chosen("shapes full --data d --networks pe --output x.json")
    assert (command.study.networks, command.study.resolution, command.output) == (("pe",), 512, Path("x.json"))


def test_studies_are_measured_reported_and_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each at its smallest size, into files of its own, and then on pages."""
    write_photographs(tmp_path, "kodim01", "kodim02")
    trimesh.creation.icosphere(2).export(tmp_path / "bunny.ply")
    monkeypatch.chdir(tmp_path)
    for name in ("experiment1", "experiment2", "ablations", "images", "balance", "shapes"):
        data = ("--data", ".") if hasattr(STUDIES[name]["smoke"], "data") else ()
        bench(monkeypatch, name, "smoke", *data, "--jobs", "1")
    written = {path.stem: json.loads(path.read_text())["figures"] for path in cli.RESULTS.iterdir()}
    assert {run["network"] for run in written["images"]["judged"]} == {"relu", "pe", "siren"}
    (tmp_path / "README.md").write_text("".join(map(place, [*written, "gains"])))
    bench(monkeypatch, "report")
    bench(monkeypatch, "check")
    assert "1 pages say what the results say." in capsys.readouterr().out


def bench(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    """Call the command."""
    monkeypatch.setattr("sys.argv", ["iga-bench", *words])
    main()
