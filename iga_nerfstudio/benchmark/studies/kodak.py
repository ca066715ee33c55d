"""Photographs at the size that they come in: all metrics on the way, over steps and over seconds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

import tyro

from iga_nerfstudio.benchmark import paper
from iga_nerfstudio.benchmark.curves import Curve, mean_curve, value_at
from iga_nerfstudio.benchmark.paper import Network
from iga_nerfstudio.benchmark.plots import draw_curves
from iga_nerfstudio.benchmark.studies.balance import DEFAULT, DEFAULT_PLAIN
from iga_nerfstudio.benchmark.studies.grouping import Grouping, from_the_mean
from iga_nerfstudio.benchmark.studies.photographs import AnyOptimizer, Entry, by_entry
from iga_nerfstudio.benchmark.studies.variants import PLAIN, Judged, Variant, costs_of, name_of
from iga_nerfstudio.benchmark.study import Figures
from iga_nerfstudio.benchmark.sweep import Outcome, whole
from iga_nerfstudio.benchmark.tables import finished, number, spread, table
from iga_nerfstudio.devices import default_device
from iga_nerfstudio.networks import CoordinateMLP
from iga_nerfstudio.tasks.image import ImageConfig, ImageTask, load_image_task

# What is seen on the way beside PSNR, and how it is written.
METRICS = {"psnr": ".2f", "ssim": ".4f", "lpips": ".4f"}


class SeenTask(ImageTask):
    """An image that is compared by all metrics on the way, not by PSNR alone."""

    def evaluate(self, network: CoordinateMLP) -> dict[str, float]:
        """PSNR in dB, SSIM, MS-SSIM and LPIPS."""
        return self.final_metrics(network)


def train_and_see(config: ImageConfig) -> Outcome:
    """Train once; all metrics along the training."""
    record = whole(SeenTask(config, load_image_task(config).image.numpy()).trainer().train())
    seen = [name for name in METRICS if name in record.evaluations]  # without its weights there is no LPIPS
    curves = {name: [list(point) for point in zip(*record.evaluations[name], strict=True)] for name in seen}
    return {"curves": curves} | {name: curve[-1][1] for name, curve in curves.items()}


@dataclass(frozen=True)
class Kodak(Grouping):
    """Photographs at their own size: plain, in patches, along axes and as in the paper, by all metrics."""

    name: ClassVar[str] = "kodak"
    variants: ClassVar[dict[str, Variant]] = {
        "plain": Grouping.variants[DEFAULT_PLAIN],
        "patches, before": from_the_mean(
            "what iga-image does at this size: patches, by the largest residuals of the step before",
            Grouping.variants["patches, before"],
        ),
        "axes": Grouping.variants[DEFAULT],
        "paper, plain": Variant("no adjustment, at the paper's rate and schedule", PLAIN),
        "paper": Variant("the paper's adjustment, rate and schedule"),
    }
    judged: ClassVar[tuple[Judged, ...]] = (
        *(("muon", variant) for variant in ("plain", "patches, before", "axes")),
        *(("adam", variant) for variant in ("paper, plain", "paper")),
    )
    pairs: ClassVar[tuple[tuple[Judged, Judged], ...]] = (
        (("muon", "patches, before"), ("muon", "plain")),
        (("muon", "axes"), ("muon", "plain")),
        (("muon", "axes"), ("muon", "patches, before")),
        (("adam", "paper"), ("adam", "paper, plain")),
    )

    max_side: int = 768
    hidden_dim: int = 256
    chosen_on: tuple[str, ...] = ()
    held_out: tuple[str, ...] = ("kodim05",)
    networks: tuple[Network, ...] = ("pe", "siren", "relu")
    rounds: int = 5
    lpips_backbone: Path | None = None  # AlexNet weights for LPIPS; torch's cache, or a download, if not given.

    def entry(self, network: Network, optimizer: AnyOptimizer, variant: str) -> Entry:
        entry = super().entry(network, optimizer, variant)
        if optimizer == "adam":
            rate = paper.photograph_rate(network, "iga" if variant == "paper" else "plain")
            entry = replace(entry, rates=(rate,))
        return replace(entry, config=replace(entry.config, lpips_backbone=self.lpips_backbone), run=train_and_see)

    @classmethod
    def section(cls, figures: Figures, stem: str) -> str:
        meanings = "\n".join(f"- {name}: {variant.meaning}." for name, variant in cls.variants.items())
        pictures = [
            f"![{metric} over {over}]({stem}_{metric}_{over}.png)"
            for metric, over in product(_seen(figures), ("steps", "time"))
        ]
        return f"""## {", ".join(figures["held_out"])} at {figures["max_side"]} pixels, \
{figures["max_num_iterations"]} steps

3 hidden layers x {figures["hidden_dim"]}, seeds {", ".join(map(str, figures["seeds"]))}, full batch.

{meanings}

A step's cost is over that of *{name_of(*cls.judged[0])}*; what there is at equal seconds is that when its run would \
be over, at this size and on this machine (cosines are then cut off before they are down). Curves over time are over \
plain steps' seconds.

{_table(figures)}
{cls._words(figures)}
{chr(10).join(pictures)}
"""

    @classmethod
    def draw(cls, figures: Figures, path: Path) -> None:
        costs = costs_of(figures)
        for metric in _seen(figures):
            steps: dict[str, dict[str, Any]] = {}
            seconds: dict[str, dict[str, Any]] = {}
            for entry, curve in _curves(figures, metric).items():
                network, name = entry[0], name_of(*entry[1:])
                steps.setdefault(network, {})[name] = curve
                end = curve[-1][0]  # a plain run's
                seconds.setdefault(network, {})[name] = [
                    (step * costs[entry], value) for step, value in curve if step * costs[entry] <= end
                ]
            title = "PSNR (dB)" if metric == "psnr" else metric.upper()
            draw_curves(steps, path.with_name(f"{path.name}_{metric}_steps.png"), title)
            draw_curves(seconds, path.with_name(f"{path.name}_{metric}_time.png"), title, "plain steps' time")


def _seen(figures: Figures) -> dict[str, str]:
    """The metrics that all trainings have."""
    runs = finished(figures["judged"])
    return {name: how for name, how in METRICS.items() if all(name in run["curves"] for run in runs)}


def _curves(figures: Figures, metric: str) -> dict[tuple[Any, ...], Curve]:
    """A metric along the trainings of each entry, as a mean over them."""
    runs = [run | {"curve": run["curves"][metric]} for run in finished(figures["judged"])]
    return {entry: mean_curve(own) for entry, own in by_entry(runs).items()}


def _table(figures: Figures) -> str:
    costs, seen, rows = costs_of(figures), _seen(figures), []
    curves = {metric: _curves(figures, metric) for metric in seen}
    for entry, own in by_entry(figures["judged"]).items():
        network, *judged = entry
        cells = [network, name_of(*judged), f"{own[0]['lr']:g}"]
        cells += [spread(own, metric, how) for metric, how in seen.items()]
        cells += [f"{costs[entry]:.2f}"]
        for metric, how in seen.items():
            curve = curves[metric].get(entry)
            cells.append(number(value_at(curve, curve[-1][0] / costs[entry]), how) if curve else "")
        rows.append(cells)
    equal = [f"{metric.upper()} at equal seconds" for metric in seen]
    return table(["network", "", "rate", *map(str.upper, seen), "step", *equal], rows)


PRESETS = {
    "smoke": Kodak(*(tyro.MISSING, 48, 16, 6, 3), held_out=("kodim02",), networks=("pe",), rounds=2),
    "cpu": Kodak(tyro.MISSING),
    "full": Kodak(*(tyro.MISSING, 768, 256, 10_000, 20), device=default_device(), held_out=paper.KODAK),
}
