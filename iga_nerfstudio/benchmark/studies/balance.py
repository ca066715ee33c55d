"""How to balance, under which optimiser and schedule: chosen on some photographs, judged on others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, ClassVar, Literal

import tyro

from iga_nerfstudio.benchmark.cost.timing import step_costs
from iga_nerfstudio.benchmark.curves import mean_curve, to_quality, value_at
from iga_nerfstudio.benchmark.paper import Network
from iga_nerfstudio.benchmark.plots import draw_curves
from iga_nerfstudio.benchmark.studies.photographs import Entry, OptimizerKind, Photographs, by_entry
from iga_nerfstudio.benchmark.study import Figures, Train
from iga_nerfstudio.benchmark.tables import differences, gain, gains_rows, number, spread, table, those
from iga_nerfstudio.devices import default_device
from iga_nerfstudio.tasks.config import ScheduleConfig, TaskAdjustmentConfig
from iga_nerfstudio.tasks.image import load_image_task

# The rate at which all variants are compared; half and twice as much are tried for those that are judged.
RATES: dict[OptimizerKind, dict[Network, float]] = {
    "adam": {"relu": 5e-3, "pe": 5e-3, "siren": 2e-3},
    "muon": {"relu": 4e-2, "pe": 2e-2, "siren": 3e-3},
}
OTHER_RATES = (0.5, 2.0)


@dataclass(frozen=True)
class Variant:
    """A variant of the adjustment."""

    meaning: str  # In words.
    changes: dict[str, Any] = field(default_factory=dict)  # What it changes in the paper's adjustment.
    end_factor: float = 1.0  # Balanced eigenvalues over the paper's number.
    automatic: bool = False  # Take what iga-image does unless told otherwise in place of the paper's.
    # How the rate falls: to a tenth at 30 percent of the steps, as in the paper, or along a cosine to nothing.
    schedule: Literal["step", "cosine"] = "step"
    length: float = 1.0  # Training steps over those of the others.


_PLAIN = {"enabled": False}
# iga-image's default under Muon, and the same without the adjustment.
DEFAULT, DEFAULT_PLAIN = "default", "plain, cosine"
HALF = "default, half"
VARIANTS = {
    "plain": Variant("no adjustment", _PLAIN),
    "paper": Variant("the paper's: its number of eigenvalues, all of the way to the next one, largest residual"),
    "half": Variant("half as many eigenvalues", end_factor=0.5),
    "twice": Variant("twice as many", end_factor=2.0),
    "power 0.7": Variant("the paper's number, 0.7 of the way (on a logarithmic scale)", {"power": 0.7}),
    "power 0.5": Variant("the paper's number, half of the way", {"power": 0.5}),
    "60, power 0.7": Variant("60 eigenvalues, 0.7 of the way", {"end": 60, "power": 0.7}),
    "up": Variant("raised to the largest eigenvalue, as under plain gradient descent", {"rule": "sgd"}),
    DEFAULT_PLAIN: Variant("no adjustment, the rate falling to nothing along a cosine", _PLAIN, schedule="cosine"),
    DEFAULT: Variant(
        "what iga-image does under Muon: one eigenvalue for every 19 groups, 0.7 of the way, and the cosine",
        automatic=True,
        schedule="cosine",
    ),
    # About as long as plain training where an adjusted step takes two plain ones, as at the smallest sizes.
    HALF: Variant("the same in half of the steps", automatic=True, schedule="cosine", length=0.5),
}
# Those that are tried at several rates and judged on the held-out photographs.
JUDGED: tuple[tuple[OptimizerKind, str], ...] = (
    ("adam", "plain"),
    ("adam", "paper"),
    ("muon", "plain"),
    ("muon", "paper"),
    ("muon", "power 0.7"),
    ("muon", DEFAULT_PLAIN),
    ("muon", DEFAULT),
    ("muon", HALF),
)


@dataclass(frozen=True)
class Balance(Photographs):
    """How to balance under Adam and Muon: chosen on some photographs, judged on others."""

    name: ClassVar[str] = "balance"

    chosen_on: tuple[str, ...] = ("kodim01",)  # Where variants are compared, and rates on the first of them.
    held_out: tuple[str, ...] = ("kodim04", "kodim05", "kodim07")  # Photographs on which the chosen ones are judged.
    networks: tuple[Network, ...] = ("relu", "pe", "siren")  # Networks to train.
    rounds: int = 15  # Timed rounds of steps.

    def measure(self, train: Train) -> Figures:
        compared = train(
            [
                self.training(self.entry(network, "muon", variant), photograph, RATES["muon"][network], seed)
                for network, variant, photograph, seed in product(self.networks, VARIANTS, self.chosen_on, self.seeds)
            ]
        )
        entries = [self.entry(network, *judged) for network, judged in product(self.networks, JUDGED)]
        found = self.judge(entries, self.chosen_on[0], self.held_out, train)
        costs = [cost for network in self.networks for cost in self.step_costs(network)]
        return {"compared": compared, **found, "step_costs": costs}

    def entry(self, network: Network, optimizer: OptimizerKind, variant: str) -> Entry:
        """A network under an optimiser, and a variant of the adjustment."""
        chosen, config = VARIANTS[variant], self.config(network, optimizer)
        paper = config.adjustment
        adjustment = replace(paper, **{"end": round(chosen.end_factor * (paper.end or 0))} | chosen.changes)
        config = replace(
            config,
            max_num_iterations=max(round(chosen.length * self.max_num_iterations), 1),
            adjustment=TaskAdjustmentConfig() if chosen.automatic else adjustment,
            schedule=ScheduleConfig(chosen.schedule),
        )
        labels = {"network": network, "optimizer": optimizer, "variant": variant}
        rate = RATES[optimizer][network]
        return Entry(labels, config, (rate, *(factor * rate for factor in OTHER_RATES)))

    def step_costs(self, network: Network) -> list[Figures]:
        """Seconds of a step of those that are judged over those of plain Adam's, timed alternately."""

        def step(optimizer: OptimizerKind, variant: str) -> Callable[[], None]:
            training = self.training(self.entry(network, optimizer, variant), self.held_out[0], 1e-4, 0)
            return load_image_task(training.configuration).trainer().step

        costs = step_costs({judged: step(*judged) for judged in JUDGED}, ("adam", "plain"), self.rounds)
        return [{"network": network, "optimizer": key[0], "variant": key[1], "cost": costs[key]} for key in JUDGED]

    @classmethod
    def section(cls, figures: Figures, stem: str) -> str:
        meanings = "\n".join(f"- {name}: {variant.meaning}." for name, variant in VARIANTS.items())
        seeds = ", ".join(map(str, figures["seeds"]))
        return f"""## {figures["max_side"]} pixels, {figures["max_num_iterations"]} steps

3 hidden layers x {figures["hidden_dim"]}, seeds {seeds}, full batch, patches that come nearest to 384 in number.

{meanings}

Chosen on {", ".join(figures["chosen_on"])}; PSNR under Muon at one learning rate:

{_compared(figures)}
Judged on {", ".join(figures["held_out"])}; a step's cost, and steps and seconds to plain Adam's final PSNR, are over \
plain Adam's; PSNR at equal seconds is that when plain Adam's run would be over, at this size and on this machine \
(cosines are then cut off before they are down):

{_judged(figures)}
{_words(figures)}
![learning curves on the held-out photographs]({stem}_curves.png)
"""

    @classmethod
    def draw(cls, figures: Figures, path: Path) -> None:
        panels = {
            network: {
                _name(optimizer, variant): mean_curve(own)
                for (_, optimizer, variant), own in by_entry(those(figures["judged"], network=network)).items()
            }
            for network in figures["networks"]
        }
        draw_curves(panels, path.with_name(f"{path.name}_curves.png"), "PSNR (dB)")

    @classmethod
    def gains(cls, figures: Figures) -> list[list[str]]:
        variants = {"adam": ("plain", "paper"), "muon": (DEFAULT_PLAIN, DEFAULT)}
        return gains_rows("images", "network", figures["judged"], "psnr", "image", variants)


def _name(optimizer: str, variant: str) -> str:
    return f"{optimizer.capitalize()}, {variant}"


def _compared(figures: Figures) -> str:
    networks = figures["networks"]
    rows = []
    for variant in VARIANTS:
        own = those(figures["compared"], variant=variant)
        rows.append([variant, *(spread(those(own, network=network), "psnr") for network in networks)])
    return table(["", *networks], rows)


def _judged(figures: Figures) -> str:
    head = ["network", "", "rate", "mean", *figures["held_out"], "step", "PSNR at equal seconds"]
    rows, runs = [], by_entry(figures["judged"])
    costs = {entry: own[0]["cost"] for entry, own in by_entry(figures["step_costs"]).items()}
    for entry, own in runs.items():
        base, curve, cost = mean_curve(runs[entry[0], "adam", "plain"]), mean_curve(own), costs[entry]
        rows.append(
            [entry[0], _name(*entry[1:]), f"{own[0]['lr']:g}", spread(own, "psnr")]
            + [spread(those(own, image=image), "psnr") for image in figures["held_out"]]
            + [f"{cost:.2f}", number(value_at(curve, base[-1][0] / cost))]
            + to_quality(curve, base, cost)
        )
    return table([*head, "steps to quality", "seconds to quality"], rows)


# What is compared in words: each with the other.
_PAIRS: Sequence[tuple[tuple[OptimizerKind, str], tuple[OptimizerKind, str]]] = (
    (("adam", "paper"), ("adam", "plain")),
    (("muon", "plain"), ("adam", "plain")),
    (("muon", "paper"), ("muon", "plain")),
    (("muon", "power 0.7"), ("muon", "paper")),
    (("muon", DEFAULT), ("muon", DEFAULT_PLAIN)),
    (("muon", DEFAULT), ("adam", "paper")),
    (("muon", HALF), ("muon", DEFAULT_PLAIN)),
)


def _words(figures: Figures) -> str:
    """What entries gain over others, and in how many of the cases of a photograph and a seed."""
    lines, runs = [], by_entry(figures["judged"])
    for ours, theirs in _PAIRS:
        gains = []
        for network in figures["networks"]:
            first, second = (runs[network, optimizer, variant] for optimizer, variant in (ours, theirs))
            gains.append(f"{network} {gain(differences(first, second, 'psnr', 'image'))}")
        lines.append(f"- {_name(*ours)} against {_name(*theirs)}: {', '.join(gains)} dB.\n")
    return "".join(lines)


PRESETS = {
    "smoke": Balance(
        *(tyro.MISSING, 48, 16, 10, 5, (42,)), chosen_on=("kodim01",), held_out=("kodim02",), networks=("pe",), rounds=2
    ),
    "cpu": Balance(tyro.MISSING),
    "full": Balance(
        *(tyro.MISSING, 768, 256, 10_000, 50),
        device=default_device(),
        chosen_on=("kodim01", "kodim02", "kodim03"),
        held_out=("kodim04", "kodim05", "kodim06", "kodim07", "kodim08"),
    ),
}
