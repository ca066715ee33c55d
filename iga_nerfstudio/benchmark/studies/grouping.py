"""Patches of a photograph, as the paper has them, or its rows and columns, at sizes where a patch has many pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, ClassVar

import tyro

from iga_nerfstudio.benchmark.curves import mean_curve
from iga_nerfstudio.benchmark.plots import draw_curves
from iga_nerfstudio.benchmark.studies.balance import RATES, Network
from iga_nerfstudio.benchmark.studies.photographs import Entry, OptimizerKind, Photographs, by_entry
from iga_nerfstudio.benchmark.study import Figures, Train
from iga_nerfstudio.benchmark.sweep import Outcome
from iga_nerfstudio.benchmark.tables import differences, gain, mean, number, spread, table, those
from iga_nerfstudio.devices import default_device
from iga_nerfstudio.tasks.config import ScheduleConfig, TaskAdjustmentConfig
from iga_nerfstudio.tasks.image import ImageConfig

# Settings of iga-image, and of its adjustment.
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {"enabled": False}),
    "patches": ({"grouping": "patches"}, {}),
    "axes": ({"grouping": "axes"}, {}),
    "axes, few": ({"grouping": "axes"}, {"end": 10, "power": 0.4}),
}
JUDGED = ("plain", "patches", "axes")


@dataclass(frozen=True)
class Grouping(Photographs):
    """Adjustment by patches or along axes: chosen on some photographs, judged on others."""

    name: ClassVar[str] = "grouping"

    max_side: int = 384  # Photographs are shrunk to that many pixels.
    max_num_iterations: int = 300  # Training steps.
    curve_points: int = 10  # How often PSNR is written down on the way.
    seeds: tuple[int, ...] = (42,)  # One training of each per seed.
    chosen_on: tuple[str, ...] = ("kodim01",)  # Where all variants are compared.
    held_out: tuple[str, ...] = ("kodim04", "kodim05", "kodim07")  # Photographs on which three of them are judged.
    networks: tuple[Network, ...] = ("relu", "pe", "siren")  # Networks to train.
    optimizers: tuple[OptimizerKind, ...] = ("muon",)  # Optimisers to train with.

    def measure(self, train: Train) -> Figures:
        def trained(photographs: Sequence[str], variants: Sequence[str]) -> list[Outcome]:
            cases = product(self.networks, self.optimizers, variants, photographs, self.seeds)
            return train(
                [
                    self.training(self.entry(network, optimizer, variant), photograph, RATES[optimizer][network], seed)
                    for network, optimizer, variant, photograph, seed in cases
                ]
            )

        return {"compared": trained(self.chosen_on, list(VARIANTS)), "judged": trained(self.held_out, JUDGED)}

    def entry(self, network: Network, optimizer: OptimizerKind, variant: str) -> Entry:
        """A network under an optimiser, and a variant; the rate falls to nothing along a cosine, as iga-image's."""
        labels = {"network": network, "optimizer": optimizer, "variant": variant}
        settings, adjustment = VARIANTS[variant]
        config: ImageConfig = replace(
            self.config(network, optimizer),
            **settings,
            adjustment=TaskAdjustmentConfig(**adjustment),
            schedule=ScheduleConfig("cosine"),
        )
        return Entry(labels, config, (RATES[optimizer][network],))

    @classmethod
    def section(cls, figures: Figures, stem: str) -> str:
        return f"""## {figures["max_side"]} pixels, {figures["max_num_iterations"]} steps

3 hidden layers x {figures["hidden_dim"]}, full batch, seeds {", ".join(map(str, figures["seeds"]))}, the balance that \
iga-image takes. *Patches* are those that come nearest to 384 in number; *axes* adjusts along rows and columns, by a \
kernel of each (`--grouping`); *few* does so by 10 eigenvalues, 0.4 of the way.

Chosen on {", ".join(figures["chosen_on"])}:

{_table(figures["compared"], figures["chosen_on"])}
Judged on {", ".join(figures["held_out"])}:

{_table(figures["judged"], figures["held_out"])}
{_words(figures)}
![learning curves on the held-out photographs]({stem}_curves.png)
"""

    @classmethod
    def draw(cls, figures: Figures, path: Any) -> None:
        panels: dict[str, dict[str, Any]] = {}
        for (network, optimizer, variant), own in by_entry(figures["judged"]).items():
            panels.setdefault(f"{network}, {optimizer.capitalize()}", {})[variant] = mean_curve(own)
        draw_curves(panels, path.with_name(f"{path.name}_curves.png"), "PSNR (dB)")


def _table(runs: Sequence[Outcome], photographs: Sequence[str]) -> str:
    rows = [
        [network, f"{optimizer.capitalize()}, {variant}", spread(own, "psnr")]
        + [spread(those(own, image=photograph), "psnr") for photograph in photographs]
        + [number(mean(own, "milliseconds_per_step"), ".0f")]
        for (network, optimizer, variant), own in by_entry(runs).items()
    ]
    return table(["network", "", "mean", *photographs, "ms / step"], rows)


def _words(figures: Figures) -> str:
    """What a variant gains over another, and in how many of the cases of a photograph and a seed."""
    lines = []
    for ours, theirs in (("patches", "plain"), ("axes", "plain"), ("axes", "patches")):
        gains = []
        for (network, optimizer, variant), own in by_entry(figures["judged"]).items():
            if variant == ours:
                others = those(figures["judged"], network=network, optimizer=optimizer, variant=theirs)
                gains.append(
                    f"{network} under {optimizer.capitalize()} {gain(differences(own, others, 'psnr', 'image'))}"
                )
        lines.append(f"- {ours} against {theirs}: {', '.join(gains)} dB.")
    return "\n".join(lines) + "\n"


PRESETS = {
    "smoke": Grouping(
        *(tyro.MISSING, 48, 16, 6, 3, (42,)), chosen_on=("kodim01",), held_out=("kodim02",), networks=("pe",)
    ),
    "cpu": Grouping(tyro.MISSING),
    "full": Grouping(*(tyro.MISSING, 768, 256, 2000, 20), device=default_device(), optimizers=("muon", "adam")),
}
