"""``iga-bench``: a command per measurement, made from its settings; prints what came out and writes it as JSON."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import tyro
from rich.console import Console

from iga_nerfstudio.allocator import reuse_host_memory
from iga_nerfstudio.benchmark.pages import Pages
from iga_nerfstudio.benchmark.record import write_result
from iga_nerfstudio.benchmark.registry import KINDS, MEASUREMENTS, STUDIES
from iga_nerfstudio.benchmark.study import Study
from iga_nerfstudio.benchmark.sweep import train_all
from iga_nerfstudio.nerf.commands import CommandError
from iga_nerfstudio.terminal import forgiving_output

RESULTS, RECORDS = Path("benchmarks/results"), Path("outputs/bench")
AnyStudy = TypeVar("AnyStudy", bound=Study)

SIZES: dict[str, str] = {
    "smoke": "To see that it works: about a minute.",
    "cpu": "Two CPU cores in up to some hours, at sizes smaller than the paper's.",
    "full": "The paper's sizes, on a GPU where there is one.",
}


@dataclass(frozen=True)
class Measurement(Generic[AnyStudy]):
    """Measure, print, and write a result."""

    study: tyro.conf.OmitArgPrefixes[AnyStudy]
    """What is measured."""
    output: Path | None = None
    """File to write; benchmarks/results/<command>.json if not given."""

    def run(self, console: Console) -> None:
        """Do it."""
        figures = self.study.settings() | self.study.measure(self.train)
        output = self.output or RESULTS / f"{self.study.name}.json"
        write_result(output, figures)
        console.print(self.study.section(figures, output.stem), markup=False, highlight=False, soft_wrap=True)
        console.print(f"Written to {output}", soft_wrap=True)

    def train(self, trainings: Any) -> Any:
        """Nothing that is timed trains networks to compare them."""
        raise NotImplementedError


@dataclass(frozen=True)
class Comparison(Measurement[AnyStudy]):
    """Train what has not been trained, print, and write a result."""

    jobs: int | None = None
    """Trainings at once, one CPU thread each; two, or one on a GPU, if not given."""
    records: Path = RECORDS
    """Folder of the trainings' records; what has one is not trained again."""

    def train(self, trainings: Any) -> Any:
        """Run some trainings."""
        jobs = self.jobs or (1 if getattr(self.study, "device", "cpu") == "cuda" else 2)
        return train_all(trainings, self.records, jobs)


@dataclass(frozen=True)
class Report:
    """Write what stands between marks in README and the pages under docs/, from the results."""

    results: Path = RESULTS
    """Folder of result files."""
    root: Path = Path()
    """Folder of README.md and docs/."""

    def run(self, console: Console) -> None:
        """Do it."""
        Pages(self.results, self.root).write()
        console.print(f"Written to {self.root / 'docs'}", soft_wrap=True)


class Check(Report):
    """Compute all of that anew from the trainings' records, and fail on any number that differs."""

    def run(self, console: Console) -> None:
        """Do it."""
        console.print(f"{Pages(self.results, self.root).check()} pages say what the results say.")


def commands() -> Any:
    """All of them, for tyro."""
    found = []
    for name, presets in STUDIES.items():
        sizes = [
            command(size, Comparison[type(study)], SIZES[size], default=Comparison(study))  # type: ignore[misc]
            for size, study in presets.items()
        ]
        found.append(command(name, reduce(or_, sizes), _summary(KINDS[name])))
    for name, study in MEASUREMENTS.items():
        kind: Any = Measurement[type(study)]  # type: ignore[misc]
        found.append(command(name.replace("_", "-"), kind, _summary(study), default=Measurement(study)))
    found += [command("report", Report, _summary(Report)), command("check", Check, _summary(Check))]
    return reduce(or_, found)


def command(name: str, kind: Any, description: str, **default: Any) -> Any:
    """A command, or a size of one, whose options are the fields of some type."""
    return Annotated[kind, tyro.conf.subcommand(name, description=description, prefix_name=False, **default)]


def _summary(study: Any) -> str:
    return (study.__doc__ or "").split("\n\n")[0]


@forgiving_output()
def main() -> None:
    """Entry point of ``iga-bench``."""
    reuse_host_memory()
    console = Console()
    chosen = tyro.cli(commands(), description=__doc__)
    try:
        chosen.run(console)
    except (ValueError, CommandError) as error:
        console.print(f"iga-bench: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(2)
