"""README and the pages under ``docs/``: what stands between two marks in them is a function of the results."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

from iga_nerfstudio.benchmark.cost.paper_cost import paper_cost
from iga_nerfstudio.benchmark.record import origin, read_results
from iga_nerfstudio.benchmark.registry import KINDS
from iga_nerfstudio.benchmark.tables import table

# <!-- iga-bench: images --> begins a block of that measurement's sections; there are blocks of other names too.
_BLOCK = re.compile(r"(<!-- iga-bench: ([\w ]+) -->\n)(.*?)(<!-- end of iga-bench -->\n)", re.DOTALL)
GAINS = ("", "Adam", "Adam + IGA", "Muon", "Muon + IGA", "from")
COSTS = ("a step of", "points", "adjusted / plain, time on a CPU", "on a GPU", "memory")


class Pages:
    """The pages of a project, README.md and those under docs/ in its root, and the results that they are of."""

    def __init__(self, results: Path, root: Path) -> None:
        self._root = root
        self._results = {name: read_results(results, name) for name in KINDS}
        if not any(self._results.values()):
            raise ValueError(f"There is no result in {results}. Measure first: iga-bench step, iga-bench images cpu.")
        files = [root / "README.md", *sorted((root / "docs").rglob("*.md"))]
        texts = {path: path.read_text(encoding="utf-8") for path in files if path.is_file()}
        self._texts = {path: text for path, text in texts.items() if _BLOCK.search(text)}
        self._places = {found[2]: path for path, text in self._texts.items() for found in _BLOCK.finditer(text)}
        homeless = [path.name for name, found in self._results.items() if name not in self._places for path, _ in found]
        if homeless:
            raise ValueError(
                f"No page under {root} has a place for {', '.join(homeless)}: a line <!-- iga-bench: name --> and one "
                "<!-- end of iga-bench -->."
            )

    def write(self) -> None:
        """Fill all blocks, and draw the pictures beside the pages."""
        try:
            for path, text in self._expected():
                path.write_text(text, encoding="utf-8")
            for name, found in self._results.items():
                for path, result in found:
                    KINDS[name].draw(result["figures"], self._places[name].with_name(path.stem))
        except OSError as error:
            raise ValueError(f"The pages cannot be written to {self._root / 'docs'}: {error}.") from error

    def check(self) -> int:
        """Compute all blocks anew, and compare them with what the pages say; how many pages there are.

        Where some say something else, the error names the first line that differs of each.
        """
        wrong = [
            found for path, text in self._expected() if (found := _first_difference(path, self._texts[path], text))
        ]
        if wrong:
            raise ValueError("\n".join(["Pages differ from the results; run iga-bench report:", *wrong]))
        return len(self._texts)

    def _expected(self) -> Iterator[tuple[Path, str]]:
        for path, text in self._texts.items():
            yield path, _BLOCK.sub(lambda found: found[1] + self._block(found[2]) + found[4], text)

    def _block(self, name: str) -> str:
        """What stands in a block."""
        tables = {"gains": self._gains, "costs": self._costs, "paper cost": paper_cost}
        if name in tables:
            return tables[name]()
        if name not in KINDS:
            raise ValueError(f"There is no measurement {name}, whose block is in {self._places[name]}.")
        sections = [
            KINDS[name].section(result["figures"], path.stem) + origin(path, result)
            for path, result in self._results[name]
        ]
        return "\n".join(sections) or "Not measured yet.\n"

    def _gains(self) -> str:
        """What the adjustment gains, in every study that says."""
        rows = []
        for name, found in self._results.items():
            for path, result in found:
                link = f"[{path.stem}]({self._places[name].relative_to(self._root)})"
                rows += [[*row, link] for row in KINDS[name].gains(result["figures"])]
        return table(GAINS, rows)

    def _costs(self) -> str:
        """What the adjustment costs."""
        rows: dict[str, list[str]] = {}
        for _, result in self._results["step"]:
            for step in result["figures"]["workloads"]:
                memory = f"{step['memory_ratio']:.2f}"
                row = rows.setdefault(step["workload"], [f"{sum(step['num_points']):,}", "", "", memory])
                row[2 if result["figures"]["device"] == "cuda" else 1] = f"{step['ratio']:.2f}"
        return table(COSTS, [[workload, *row] for workload, row in rows.items()])


def _first_difference(path: Path, said: str, right: str) -> str | None:
    for number, (ours, theirs) in enumerate(zip_longest(said.splitlines(), right.splitlines()), 1):
        if ours != theirs:
            return f"{path}:{number}: it says {ours!r}, the results say {theirs!r}"
    return None
