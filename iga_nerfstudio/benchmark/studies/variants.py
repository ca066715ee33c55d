"""Variants of the adjustment on photographs: all are compared on some, and those that stand out judged on others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, ClassVar, Literal

from iga_nerfstudio.benchmark.cost.timing import step_costs
from iga_nerfstudio.benchmark.curves import mean_curve, to_quality, value_at
from iga_nerfstudio.benchmark.paper import Network
from iga_nerfstudio.benchmark.plots import draw_curves
from iga_nerfstudio.benchmark.studies.photographs import AnyOptimizer, Entry, Photographs, by_entry
from iga_nerfstudio.benchmark.study import Figures, Train
from iga_nerfstudio.benchmark.tables import differences, gain, number, spread, table, those
from iga_nerfstudio.tasks.config import ScheduleConfig, TaskAdjustmentConfig
from iga_nerfstudio.tasks.image import load_image_task

# The rate at which all variants are compared.
RATES: dict[AnyOptimizer, dict[Network, float]] = {
    "adam": {"relu": 5e-3, "pe": 5e-3, "siren": 2e-3},
    "muon": {"relu": 8e-2, "pe": 4e-2, "siren": 6e-3},
    "soap": {"relu": 2e-2, "pe": 2e-2, "siren": 3e-3},
}
PLAIN = {"enabled": False}
# What networks begin with in iga-image, where the paper's settings begin with weights as they are drawn.
NEAR_MEAN = {"first_output": "mean"}
# What iga-image does unless told otherwise, with pictures of the studies' sizes.
_AUTOMATIC = TaskAdjustmentConfig(representative="largest_residual")
# A variant, and what it is trained with.
Judged = tuple[AnyOptimizer, str]


@dataclass(frozen=True)
class Variant:
    """A variant of the adjustment."""

    meaning: str  # In words.
    changes: dict[str, Any] = field(default_factory=dict)  # What it changes in the adjustment.
    end_factor: float = 1.0  # Balanced eigenvalues over the paper's number.
    automatic: bool = False  # Change what iga-image does unless told otherwise in place of the paper's.
    # How the rate falls: to a tenth at 30 percent of the steps, as in the paper, or along a cosine to nothing.
    schedule: Literal["step", "cosine"] = "step"
    length: float = 1.0  # Training steps over those of the others.
    task: dict[str, Any] = field(default_factory=dict)  # What it changes in the settings of iga-image.


@dataclass(frozen=True)
class Variants(Photographs):
    """Variants of the adjustment: chosen on some photographs, judged on others."""

    variants: ClassVar[Mapping[str, Variant]]
    # Those that are judged, the first of them plain training, which the others' steps and seconds are compared with.
    judged: ClassVar[tuple[Judged, ...]]
    pairs: ClassVar[tuple[tuple[Judged, Judged], ...]]  # Which are compared in words, each with the other.
    other_rates: ClassVar[tuple[float, ...]] = ()  # Rates tried before one is judged, over the one of all.

    chosen_on: tuple[str, ...] = ("kodim01",)  # Where variants are compared, and rates on the first of them.
    held_out: tuple[str, ...] = ("kodim04", "kodim05", "kodim07")  # Photographs on which the chosen ones are judged.
    networks: tuple[Network, ...] = ("relu", "pe", "siren")  # Networks to train.
    rounds: int = 15  # Timed rounds of steps.

    def measure(self, train: Train) -> Figures:
        compared = [
            self.training(self.entry(network, "muon", variant), photograph, RATES["muon"][network], seed)
            for network, variant, photograph, seed in product(self.networks, self.variants, self.chosen_on, self.seeds)
        ]
        entries = [self.entry(network, *judged) for network, judged in product(self.networks, self.judged)]
        found = self.judge(entries, next(iter(self.chosen_on), ""), self.held_out, train)
        costs = [cost for network in self.networks for cost in self.step_costs(network)]
        return {"compared": train(compared), **found, "step_costs": costs}

    def entry(self, network: Network, optimizer: AnyOptimizer, variant: str) -> Entry:
        """A network under an optimiser, and a variant of the adjustment."""
        chosen, config = self.variants[variant], self.config(network, optimizer)
        paper = replace(config.adjustment, end=round(chosen.end_factor * (config.adjustment.end or 0)))
        config = replace(
            config,
            max_num_iterations=max(round(chosen.length * self.max_num_iterations), 1),
            adjustment=replace(_AUTOMATIC if chosen.automatic else paper, **chosen.changes),
            schedule=ScheduleConfig(chosen.schedule),
            **chosen.task,
        )
        labels = {"network": network, "optimizer": optimizer, "variant": variant}
        rate = RATES[optimizer][network]
        return Entry(labels, config, (rate, *(factor * rate for factor in self.other_rates)))

    def step_costs(self, network: Network) -> list[Figures]:
        """Seconds of a step of those that are judged over those of plain training, timed alternately."""

        def step(optimizer: AnyOptimizer, variant: str) -> Callable[[], None]:
            training = self.training(self.entry(network, optimizer, variant), self.held_out[0], 1e-4, 0)
            return load_image_task(training.configuration).trainer().step

        costs = step_costs({judged: step(*judged) for judged in self.judged}, self.judged[0], self.rounds)
        return [{"network": network, "optimizer": key[0], "variant": key[1], "cost": costs[key]} for key in self.judged]

    @classmethod
    def section(cls, figures: Figures, stem: str) -> str:
        meanings = "\n".join(f"- {name}: {variant.meaning}." for name, variant in cls.variants.items())
        base = name_of(*cls.judged[0])
        return f"""## {figures["max_side"]} pixels, {figures["max_num_iterations"]} steps

3 hidden layers x {figures["hidden_dim"]}, seeds {", ".join(map(str, figures["seeds"]))}, full batch, patches that \
come nearest to 384 in number.

{meanings}

Chosen on {", ".join(figures["chosen_on"])}; PSNR under Muon at one learning rate:

{cls._compared(figures)}
Judged on {", ".join(figures["held_out"])}. A step's cost is over that of *{base}*; steps and seconds to its final \
PSNR are over its own; PSNR at equal seconds is that when its run would be over, at this size and on this machine \
(cosines are then cut off before they are down):

{cls._judged(figures)}
{cls._words(figures)}
![learning curves on the held-out photographs]({stem}_curves.png)
"""

    @classmethod
    def draw(cls, figures: Figures, path: Path) -> None:
        panels: dict[str, dict[str, Any]] = {}
        for (network, *judged), own in by_entry(figures["judged"]).items():
            panels.setdefault(network, {})[name_of(*judged)] = mean_curve(own)
        draw_curves(panels, path.with_name(f"{path.name}_curves.png"), "PSNR (dB)")

    @classmethod
    def _compared(cls, figures: Figures) -> str:
        rows = []
        for variant in cls.variants:
            own = those(figures["compared"], variant=variant)
            rows.append([variant, *(spread(those(own, network=network), "psnr") for network in figures["networks"])])
        return table(["", *figures["networks"]], rows)

    @classmethod
    def _judged(cls, figures: Figures) -> str:
        head = ["network", "", "rate", "mean", *figures["held_out"], "step", "PSNR at equal seconds"]
        rows, plain = [], dict(zip(("optimizer", "variant"), cls.judged[0], strict=True))
        costs = costs_of(figures)
        for entry, own in by_entry(figures["judged"]).items():
            base = mean_curve(those(figures["judged"], network=entry[0], **plain))
            curve, cost = mean_curve(own), costs[entry]
            rows.append(
                [entry[0], name_of(*entry[1:]), f"{own[0]['lr']:g}", spread(own, "psnr")]
                + [spread(those(own, image=image), "psnr") for image in figures["held_out"]]
                + [f"{cost:.2f}", number(value_at(curve, base[-1][0] / cost))]
                + to_quality(curve, base, cost)
            )
        return table([*head, "steps to quality", "seconds to quality"], rows)

    @classmethod
    def _words(cls, figures: Figures) -> str:
        """What entries gain over others, and in how many of the cases of a photograph and a seed."""
        lines, runs = [], by_entry(figures["judged"])
        for ours, theirs in cls.pairs:
            both = [(n, runs.get((n, *ours)), runs.get((n, *theirs))) for n in figures["networks"]]
            gains = [f"{n} {gain(differences(a, b, 'psnr', 'image'))}" for n, a, b in both if a and b]
            if gains:
                lines.append(f"- {name_of(*ours)} against {name_of(*theirs)}: {', '.join(gains)} dB.\n")
        return "".join(lines)


def name_of(optimizer: str, variant: str) -> str:
    """An optimiser and a variant in words."""
    return f"{'SOAP' if optimizer == 'soap' else optimizer.capitalize()}, {variant}"


def costs_of(figures: Figures) -> dict[tuple[Any, ...], float]:
    """What a step costs, by entry."""
    return {entry: own[0]["cost"] for entry, own in by_entry(figures["step_costs"]).items()}
