"""The paper's ablations on photographs: who stands for a group (Table 6), and how large groups are (Table 7)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, ClassVar, get_args

import tyro

from iga_nerfstudio.benchmark import paper
from iga_nerfstudio.benchmark.paper import Network, sizes
from iga_nerfstudio.benchmark.studies.images import FULL
from iga_nerfstudio.benchmark.studies.photographs import Entry, Photographs
from iga_nerfstudio.benchmark.study import Figures, Train
from iga_nerfstudio.benchmark.sweep import Outcome
from iga_nerfstudio.benchmark.tables import count, differences, gain, spread, table, those, with_gain
from iga_nerfstudio.devices import default_device
from iga_nerfstudio.tasks.image import ImageConfig

NETWORKS = get_args(Network)
# Side of a patch over the size's own, in the cases where it is another.
PATCH_FACTORS = {"patches half as large": 0.5, "patches twice as large": 2.0, "patches four times as large": 4.0}
# Rows of the table, and what each changes in the adjustment.
CASES: dict[str, dict[str, Any]] = {
    "plain": {"enabled": False},
    # The same at the learning rate that the adjusted ones have.
    "plain, rate of IGA": {"enabled": False},
    "largest residual": {},
    "random once": {"representative": "random_once"},
    "random each step": {"representative": "random"},
    "middle": {"representative": "middle"},
    "mean of 4": {"representative": "mean", "num_representatives": 4},
    # What the authors' code does where the paper says largest residual.
    "all maxima": {"representative": "all_maxima"},
    **{case: {} for case in PATCH_FACTORS},
}


@dataclass(frozen=True)
class Ablations(Photographs):
    """The paper's ablations on photographs: representatives and group sizes."""

    name: ClassVar[str] = "ablations"

    images: tuple[str, ...] = ("kodim01", "kodim02")  # Names of the photographs.
    patch_size: int = 4  # Side of a patch in pixels.

    def measure(self, train: Train) -> Figures:
        trainings = [
            self.training(entry, photograph, entry.rates[0], seed)
            for entry, photograph, seed in product(self.entries(), self.images, self.seeds)
        ]
        return {"trainings": train(trainings)}

    def entries(self) -> Iterator[Entry]:
        """What is compared."""
        for case, network in product(CASES, NETWORKS):
            config = self.config_of(network, case)
            plain = paper.RATES.get((network, "plain"), 1e-3)
            rate = plain if case == "plain" else paper.photograph_settings(network).optimizer.lr or plain
            if not (case == "plain, rate of IGA" and rate == plain) and self._groups_suffice(config):
                yield Entry({"network": network, "case": case}, config, (rate,))

    def config_of(self, network: Network, case: str) -> ImageConfig:
        """The settings of a case."""
        config = self.config(network, "adam")
        patch_size = max(int(self.patch_size * PATCH_FACTORS.get(case, 1.0)), 1)
        return replace(config, patch_size=patch_size, adjustment=replace(config.adjustment, **CASES[case]))

    def _groups_suffice(self, config: ImageConfig) -> bool:
        """Whether photographs of 3:2 have more patches than eigenvalues are balanced."""
        patch = config.patch_size or 1
        return (self.max_side // patch) * (2 * self.max_side // 3 // patch) > (config.adjustment.end or 0)

    @classmethod
    def section(cls, figures: Figures, stem: str) -> str:
        runs = figures["trainings"]
        rows = []
        for case in CASES:
            ours = [_cell(those(runs, network=network), case) for network in NETWORKS]
            theirs = [
                with_gain(*(paper.number("ablation", network, name, "psnr") for name in (case, "plain")))
                for network in NETWORKS
            ]
            rows.append([case, *ours, *theirs])
        return f"""## {", ".join(figures["images"])} at {figures["max_side"]} pixels, \
{figures["max_num_iterations"]} steps

3 hidden layers x {figures["hidden_dim"]}, patches of {figures["patch_size"]} pixels, seeds \
{", ".join(map(str, figures["seeds"]))}. {sizes(figures, FULL)}

{table(["", "ReLU", "PE", "SIREN", "ReLU, paper", "PE, paper", "SIREN, paper"], [row for row in rows if any(row[1:4])])}
{_words(runs)}
"""


def _cell(runs: list[Outcome], case: str) -> str:
    own = those(runs, case=case)
    if case == "plain" or not own:
        return spread(own, "psnr")
    return f"{spread(own, 'psnr')} ({gain(differences(own, those(runs, case='plain'), 'psnr', 'image'))})"


def _words(runs: list[Outcome]) -> str:
    """On how many of network, image and seed every case is above plain training at its own rate."""
    plain, below = those(runs, case="plain"), []
    for case in CASES:
        found = differences(those(runs, case=case), plain, "psnr", "network", "image")
        if case != "plain" and any(one["difference"] <= 0 for one in found):
            below.append(f"{case} in {count(found)}")
    if below:
        return f"Not above plain training for every network, image and seed: {', '.join(below)}."
    return "Every case is above plain training for every network, image and seed."


PRESETS = {
    "smoke": Ablations(*(tyro.MISSING, 32, 16, 10, 2, (42,)), images=("kodim01",)),
    "cpu": Ablations(tyro.MISSING, 64),
    "full": Ablations(
        *(tyro.MISSING, 768, 256, 10_000),
        device=default_device(),
        images=("kodim01", "kodim02", "kodim03"),
        patch_size=32,
    ),
}
