"""The paper's second experiment: six tones, and more and more balanced eigenvalues, in groups of several sizes."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from iga_nerfstudio.benchmark.curves import Curve
from iga_nerfstudio.benchmark.plots import HeatMap, draw_curves, draw_heat_maps
from iga_nerfstudio.benchmark.studies.photographs import optimizer_settings
from iga_nerfstudio.benchmark.study import Figures, Study, Train
from iga_nerfstudio.benchmark.sweep import Outcome, Training, whole
from iga_nerfstudio.benchmark.tables import finished, grouped, spread, table, those
from iga_nerfstudio.tasks.config import MachineConfig
from iga_nerfstudio.tasks.config_files import read_preset
from iga_nerfstudio.tasks.signal import SignalConfig, load_signal_task

Network = Literal["relu", "siren"]
NETWORKS: tuple[Network, ...] = ("relu", "siren")


@dataclass(frozen=True)
class Experiment2(Study):
    """The paper's second experiment: ReLU and SIREN on six tones, more and more balanced eigenvalues."""

    name: ClassVar[str] = "experiment2"

    ends: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7)  # Last balanced eigenvalues; plain training (0) is always there.
    group_sizes: tuple[int, ...] = (1, 4, 8)  # Samples per group, p; 1 is the eNTK of all samples.
    seeds: tuple[int, ...] = tuple(range(10))  # One training of each per seed.
    num_samples: int = 2048  # Samples of the signal, N.
    hidden_dim: int = 256  # Width of the networks of four hidden layers.
    max_num_iterations: int = 10_000  # Training steps.
    lr: float = 5e-5  # Adam's learning rate, fixed.
    curve_points: int = 50  # How often DFT errors are written down.

    def measure(self, train: Train) -> Figures:
        cases = [(1, 0), *((p, end) for p in self.group_sizes for end in self.ends)]
        return {"trainings": train([self.training(*own) for own in product(self.seeds, NETWORKS, cases)])}

    def training(self, seed: int, network: Network, case: tuple[int, int]) -> Training:
        """One training."""
        labels = {"network": network, "group_size": case[0], "end": case[1], "seed": seed}
        return Training(labels, train_tones, self.config(network, *case, seed))

    def config(self, network: Network, group_size: int, end: int, seed: int) -> SignalConfig:
        """The paper's settings at these sizes."""
        preset = read_preset(f"experiment2_{network}", SignalConfig)
        return replace(
            preset,
            num_samples=self.num_samples,
            max_num_iterations=self.max_num_iterations,
            steps_per_log=10,
            steps_per_eval=max(self.max_num_iterations // self.curve_points, 1),
            interval_size=group_size,
            network=replace(preset.network, hidden_dim=self.hidden_dim),
            adjustment=replace(preset.adjustment, enabled=end > 0, end=end),
            optimizer=optimizer_settings("adam", network, self.lr),
            machine=MachineConfig(seed, "cpu"),
            vis="none",
        )

    @classmethod
    def section(cls, figures: Figures, stem: str) -> str:
        parts = [
            f"""## {figures["max_num_iterations"]} steps, {len(figures["seeds"])} seeds

{figures["num_samples"]} samples, 4 hidden layers x {figures["hidden_dim"]}, Adam {figures["lr"]:g}. Relative DFT \
error of every tone (Eq. 6) after the last step, mean over the seeds, ± the standard deviation over them; in the last \
column the highest tone's as a mean over the whole training, which tells how soon it was learned also where it was \
learned in the end.
"""
        ]
        for network in NETWORKS:
            groups = grouped(those(figures["trainings"], network=network), "group_size", "end")
            tones = _tones(groups)
            rows = []
            for (group_size, end), runs in groups.items():
                last = [spread(_errors(runs, tone, last=True), "error", ".3f") for tone in tones]
                mean = spread(_errors(runs, tones[-1], last=False), "error", ".3f")
                rows.append([str(group_size) if end else "", str(end), *last, spread(runs, "psnr"), mean])
            head = ["p", "end", *(f"{tone} Hz" for tone in tones), "PSNR", f"{tones[-1]} Hz over the training"]
            words = [
                monotonicity(_over_ends(groups, tones[-1], last), tones[-1], which)
                for which, last in (("last", True), ("mean", False))
            ]
            few = coarse_groups(figures["num_samples"], figures["group_sizes"], tones[-1])
            parts.append(f"### {network}\n\n{table(head, rows)}\n{' '.join(words)}{few}\n")
        pictures = f"""![relative DFT errors over the training]({stem}_heat.png)

![error of the highest tone against the number of balanced eigenvalues]({stem}_ends.png)
"""
        return "\n".join([*parts, pictures])

    @classmethod
    def draw(cls, figures: Figures, path: Path) -> None:
        _draw_heat(figures, path.with_name(f"{path.name}_heat.png"))
        _draw_ends(figures, path.with_name(f"{path.name}_ends.png"))


Groups = Mapping[tuple[Any, ...], Sequence[Outcome]]


def _tones(groups: Groups) -> list[str]:
    return next(list(run["errors"]) for runs in groups.values() for run in finished(runs))


def _errors(runs: Sequence[Outcome], tone: str, last: bool) -> list[Outcome]:
    """A tone's error by seed: after the last step, or as a mean over the points of its curve."""
    return [
        {"seed": run["seed"], "error": (run["errors"][tone][-1] if last else statistics.mean(run["errors"][tone]))}
        for run in finished(runs)
    ]


def _over_ends(groups: Groups, tone: str, last: bool) -> dict[int, Curve]:
    """By group size: ends, and a tone's error as a mean over the seeds. Plain training is that of every group size."""
    means = {case: statistics.mean(run["error"] for run in _errors(runs, tone, last)) for case, runs in groups.items()}
    return {
        group_size: sorted((end, error) for (p, end), error in means.items() if end == 0 or p == group_size)
        for group_size in sorted({p for p, end in groups if end})
    }


def monotonicity(curves: Mapping[int, Curve], tone: str, which: str) -> str:
    """In words: whether a tone's error falls with every further end, for every group size."""
    sentences = []
    for group_size, own in curves.items():
        rises = [f"{before} to {after}" for (before, lower), (after, error) in pairwise(own) if error >= lower]
        story = "falls with every step of end" if not rises else f"does not fall from end {', '.join(rises)}"
        sentences.append(
            f"p = {group_size}: the {which} error at {tone} Hz {story} ({own[0][1]:.3f} to {own[-1][1]:.3f})."
        )
    return " ".join(sentences)


def coarse_groups(num_samples: int, group_sizes: Sequence[int], tone: str) -> str:
    """In words: groups of which there are too few to tell a tone from a lower one; the signal is 2 units long."""
    return "".join(
        f" p = {p} leaves {num_samples // p} representatives for the {2 * float(tone):g} periods of {tone} Hz, fewer "
        "than two each (the paper has more): their kernel takes it for a lower tone."
        for p in sorted(group_sizes)
        if num_samples // p < 4 * float(tone)
    )


def _draw_heat(figures: Figures, path: Path) -> None:
    """Heat maps of the DFT errors, a row for every network and group size."""

    def heat_map(network: Network, p: int, end: int) -> HeatMap:
        runs = finished(those(figures["trainings"], network=network, end=end, group_size=p if end else 1))
        tones = list(runs[0]["errors"])
        errors = np.mean([[run["errors"][tone] for tone in tones] for run in runs], axis=0)
        return f"{network}, " + (f"p = {p}, end {end}" if end else "plain"), errors.T, runs[0]["steps"][-1], tones

    rows = [(network, p) for network in NETWORKS for p in figures["group_sizes"]]
    draw_heat_maps([[heat_map(*row, end) for end in (0, *figures["ends"])] for row in rows], path)


def _draw_ends(figures: Figures, path: Path) -> None:
    """Final errors of the two highest tones against end."""
    panels = {}
    for network in NETWORKS:
        groups = grouped(those(figures["trainings"], network=network), "group_size", "end")
        second, highest = (_over_ends(groups, tone, last=True) for tone in _tones(groups)[-2:])
        panels[network] = {
            f"p = {p}, {which} tone": curves[p]
            for p in figures["group_sizes"]
            for which, curves in (("second highest", second), ("highest", highest))
        }
    draw_curves(panels, path, "relative DFT error", over="end: balanced eigenvalues (0: plain)")


def train_tones(config: SignalConfig) -> Outcome:
    """Train once; the curve of every tone's error."""
    record = whole(load_signal_task(config).trainer().train())
    prefix = "dft_error/"
    tones = {name.removeprefix(prefix): c for name, c in record.evaluations.items() if name.startswith(prefix)}
    return {
        "psnr": record.evaluations["psnr"][1][-1],
        "steps": next(iter(tones.values()))[0],
        "errors": {tone: [round(value, 4) for value in values] for tone, (_steps, values) in tones.items()},
    }


PRESETS = {
    "smoke": Experiment2((3,), (8,), (0,), 256, 24, 60, 1e-3, 6),
    "cpu": Experiment2((1, 3, 5, 7), (1, 4, 8), (0, 1, 2), 512, 128, 2000, 3e-4),
    "full": Experiment2(),
}
