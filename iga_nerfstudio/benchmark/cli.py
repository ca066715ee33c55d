"""``iga-bench``: a command per measurement, made from its settings; prints what came out and writes it as JSON."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

import tyro
from rich.console import Console

from iga_nerfstudio.allocator import reuse_host_memory
from iga_nerfstudio.benchmark.pages import Pages
from iga_nerfstudio.benchmark.record import write_result
from iga_nerfstudio.benchmark.registry import MEASUREMENTS, STUDIES
from iga_nerfstudio.benchmark.study import Study
from iga_nerfstudio.benchmark.sweep import train_all
from iga_nerfstudio.nerf.commands import CommandError

RESULTS, RECORDS = Path("benchmarks/results"), Path("outputs/bench")
AnyStudy = TypeVar("AnyStudy", bound=Study)
Preset = Literal["smoke", "cpu", "full"]

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
        """Do it.

        Raises:
            ValueError: If a setting, or what it names, cannot be used.
        """
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
class All:
    """Every experiment of the paper, at one size."""

    preset: tyro.conf.Positional[Preset]
    """Which size."""
    data: Path
    """Folder of the photographs, <name>.png."""
    meshes: Path | None = None
    """Folder of the meshes, <name>.ply; shapes are left out if not given."""
    scenes: tuple[Path, ...] = ()
    """Folders of Blender scenes; NeRFs are left out if none is given."""
    jobs: int | None = None
    """Trainings at once, one CPU thread each; two, or one on a GPU, if not given."""
    records: Path = RECORDS
    """Folder of the trainings' records; what has one is not trained again."""
    output: Path = RESULTS
    """Folder of the files to write."""

    def run(self, console: Console) -> None:
        """Do it."""
        data: dict[str, Any] = {"images": self.data, "ablations": self.data, "balance": self.data}
        data |= {"shapes": self.meshes, "nerf": self.scenes or None}
        for name in ("experiment1", "experiment2", *data):
            if name in data and data[name] is None:
                console.print(f"not run: {name} (no folder given)")
                continue
            study = STUDIES[name][self.preset]
            study = replace(study, data=data[name]) if name in data else study
            Comparison(study, self.output / f"{name}.json", self.jobs, self.records).run(console)


@dataclass(frozen=True)
class Report:
    """Write what stands between marks in README and the pages under docs/, from the results."""

    results: Path = RESULTS
    """Folder of result files."""
    root: Path = Path()
    """Folder of README.md and docs/."""

    def run(self, console: Console) -> None:
        """Do it.

        Raises:
            ValueError: If there are no results, or a page cannot be written.
        """
        Pages(self.results, self.root).write()
        console.print(f"Written to {self.root / 'docs'}", soft_wrap=True)


class Check(Report):
    """Compute all of that anew from the trainings' records, and fail on any number that differs."""

    def run(self, console: Console) -> None:
        """Do it.

        Raises:
            ValueError: If a page says something else than its results.
        """
        console.print(f"{Pages(self.results, self.root).check()} pages say what the results say.")


def command(name: str, kind: Any, study: Study, description: str | None = None) -> Any:
    """A command, or a size of one, whose options are the study's settings."""
    default = kind(study)
    return Annotated[
        kind[type(study)], tyro.conf.subcommand(name, default=default, description=description, prefix_name=False)
    ]


def commands() -> Any:
    """All of them, for tyro."""
    found = []
    for name, presets in STUDIES.items():
        sizes = [command(size, Comparison, study, SIZES[size]) for size, study in presets.items()]
        found.append(subcommand(name, _one_of(sizes), _summary(presets["smoke"])))
    for name, study in MEASUREMENTS.items():
        found.append(command(name.replace("_", "-"), Measurement, study, _summary(study)))
    for name, kind in (("all", All), ("report", Report), ("check", Check)):
        found.append(subcommand(name, kind, _summary(kind)))
    return _one_of(found)


def _one_of(kinds: list[Any]) -> Any:
    return reduce(or_, kinds)


def subcommand(name: str, kind: Any, description: str) -> Any:
    """A command of some type."""
    return Annotated[kind, tyro.conf.subcommand(name, description=description, prefix_name=False)]


def _summary(study: Any) -> str:
    return (study.__doc__ or "").split("\n\n")[0]


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
