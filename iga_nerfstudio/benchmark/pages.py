"""The pages under ``docs/``, and README's table of gains: functions of the results, and checked to be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from iga_nerfstudio.benchmark.cost.kernel import Kernel, MuonStep
from iga_nerfstudio.benchmark.cost.options import Options
from iga_nerfstudio.benchmark.cost.page import COST_HEADER, MEASUREMENTS_HEADER, paper_cost
from iga_nerfstudio.benchmark.cost.scaling import Scaling
from iga_nerfstudio.benchmark.cost.step import Step
from iga_nerfstudio.benchmark.cost.viewer import ViewerCost
from iga_nerfstudio.benchmark.cost.watching import Watching
from iga_nerfstudio.benchmark.record import origin, read_results
from iga_nerfstudio.benchmark.studies import ablations, balance, experiment1, experiment2, images, rays, shapes
from iga_nerfstudio.benchmark.study import Study
from iga_nerfstudio.benchmark.tables import table

# Where README's table stands.
BEGIN, END = "<!-- Written by iga-bench report: -->\n", "<!-- until here. -->\n"
COSTS = ("a step of ([more](docs/cost.md))", "points", "adjusted / plain, time", "memory")
GAINS = ("", "Adam", "Adam + IGA", "Muon", "Muon + IGA", "from")


@dataclass(frozen=True)
class Page:
    """One page.

    Attributes:
        header: What it begins with: a title, and what holds for all sections.
        parts: Measurements, of whose results it has a section each, and text between them.
    """

    header: str
    parts: tuple[type[Study] | str, ...]


PAGES: dict[str, Page] = {
    "results/images": Page(images.HEADER, (images.Images,)),
    "results/balance": Page(balance.HEADER, (balance.Balance,)),
    "results/ablations": Page(ablations.HEADER, (ablations.Ablations,)),
    "results/shapes": Page(shapes.HEADER, (shapes.Shapes,)),
    "results/rays": Page(rays.HEADER, (rays.Rays,)),
    "results/experiment1": Page(experiment1.HEADER, (experiment1.Experiment1,)),
    "results/experiment2": Page(experiment2.HEADER, (experiment2.Experiment2,)),
    "cost": Page(COST_HEADER, (Step, paper_cost(), Scaling, Options)),
    "measurements": Page(MEASUREMENTS_HEADER, (Kernel, MuonStep, ViewerCost, Watching)),
}


def found_in(page: Page, results: Path) -> Iterator[tuple[type[Study], Path, dict[str, Any]]]:
    """The results that a page is of: of which measurement, their files, and what these hold."""
    for part in page.parts:
        if not isinstance(part, str):
            yield from ((part, path, result) for path, result in read_results(results, part.name))


def render(page: Page, results: Path) -> str | None:
    """A page's text, or None if nothing of it has been measured."""
    parts, found = [], False
    for part in page.parts:
        if isinstance(part, str):
            parts.append(part)
            continue
        for path, result in read_results(results, part.name):
            parts.append(part.section(result["figures"], path.stem) + origin(path, result))
            found = True
    names = " and ".join(f"`{part.name}.json`" for part in page.parts if not isinstance(part, str))
    note = f"Written by `iga-bench report` from {names} in `benchmarks/results/`; `iga-bench check` computes it anew.\n"
    return "\n".join([page.header, note, *parts]) if found else None


def gains(results: Path) -> str:
    """README's tables: what the adjustment gains, in every study that says, and what a step costs."""
    rows = []
    for name, page in PAGES.items():
        for study, path, result in found_in(page, results):
            rows += [[*row, f"[{path.stem}](docs/{name}.md)"] for row in study.gains(result["figures"])]
    costs = [
        [step["workload"], f"{sum(step['num_points']):,}", f"{step['ratio']:.2f}", f"{step['memory_ratio']:.2f}"]
        for _path, result in read_results(results, Step.name)
        for step in result["figures"]["workloads"]
    ]
    tables = (table(GAINS, rows) if rows else "", table(COSTS, costs) if costs else "")
    return "\n".join(filter(None, tables))


def texts(results: Path, root: Path) -> dict[Path, str]:
    """All files that results decide, and what they should hold; of README all but its table is as it is.

    Raises:
        ValueError: If there are no results.
    """
    found = {root / "docs" / f"{name}.md": render(page, results) for name, page in PAGES.items()}
    pages = {path: text for path, text in found.items() if text is not None}
    if not pages:
        raise ValueError(f"There is no result in {results}. Measure first: iga-bench step, iga-bench images cpu, ...")
    readme = root / "README.md"
    if readme.is_file() and BEGIN in (text := readme.read_text(encoding="utf-8")):
        before, rest = text.split(BEGIN)
        pages[readme] = before + BEGIN + gains(results) + END + rest.split(END)[1]
    return pages


def write_pages(results: Path, root: Path) -> None:
    """Write the pages that there are results for, with their pictures, and README's table.

    Raises:
        ValueError: If there are no results, or a page cannot be written.
    """
    try:
        for path, text in texts(results, root).items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        for name, page in PAGES.items():
            for study, path, result in found_in(page, results):
                study.draw(result["figures"], (root / "docs" / name).with_name(path.stem))
    except OSError as error:
        raise ValueError(f"The pages cannot be written to {root / 'docs'}: {error}.") from error


def check_pages(results: Path, root: Path) -> int:
    """Compute all pages and README's table from the results, and compare them with what the files say.

    Returns:
        How many pages there are.

    Raises:
        ValueError: If one says something else; names the first line that differs of each.
    """
    expected = texts(results, root)
    wrong = [difference for path, text in expected.items() if (difference := _first_difference(path, text))]
    known = {root / "docs" / f"{name}.md" for name in PAGES} - set(expected)
    wrong += [f"{path} has no result" for path in sorted(known) if path.exists()]
    if wrong:
        raise ValueError("\n".join(["Pages differ from the results; run iga-bench report:", *wrong]))
    return len(expected)


def _first_difference(path: Path, text: str) -> str | None:
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return next(
        (
            f"{path}:{number}: it says {said!r}, the results say {right!r}"
            for number, (said, right) in enumerate(zip_longest(lines, text.splitlines()), 1)
            if said != right
        ),
        None,
    )
