"""How to balance, under which optimiser and schedule: chosen on some photographs, judged on others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import tyro

from iga_nerfstudio.benchmark.studies.variants import NEAR_MEAN, PLAIN, Judged, Variant, Variants
from iga_nerfstudio.benchmark.study import Figures
from iga_nerfstudio.benchmark.tables import gains_rows
from iga_nerfstudio.devices import default_device
from iga_nerfstudio.tasks.config import OptimizerConfig

# iga-image's default under Muon, the same without the adjustment, and the same in fewer steps.
DEFAULT, DEFAULT_PLAIN = "default", "default, plain"
HALF, FIFTH, TENTH = "default, half", "default, a fifth", "default, a tenth"
# Networks that begin with their weights as they are drawn, but for those that begin near the mean.
DRAWN_PLAIN, PATCHES, DRAWN, ALL_MUON = "plain, cosine", "patches", "axes", "axes, all layers by Muon"
MEAN_PLAIN, MEAN_PAPER = "plain, from the mean", "paper, from the mean"
_AXES = {"grouping": "axes"}
_BOTH = _AXES | NEAR_MEAN


def _short(share: str, length: float) -> Variant:
    # Muon's own momentum is of 20 steps, too many of so few.
    task = _BOTH | {"optimizer": OptimizerConfig("muon", momentum=0.9)}
    meaning = f"the default in {share} of the steps, by a momentum of 0.9"
    return Variant(meaning, automatic=True, schedule="cosine", length=length, task=task)


@dataclass(frozen=True)
class Balance(Variants):
    """How to balance under Adam, Muon and SOAP: chosen on some photographs, judged on others."""

    name: ClassVar[str] = "balance"

    variants: ClassVar[dict[str, Variant]] = {
        "plain": Variant("no adjustment", PLAIN),
        "paper": Variant("the paper's: its number of eigenvalues, all of the way to the next one, largest residual"),
        "half": Variant("half as many eigenvalues", end_factor=0.5),
        "twice": Variant("twice as many", end_factor=2.0),
        "power 0.7": Variant("the paper's number, 0.7 of the way (on a logarithmic scale)", {"power": 0.7}),
        "power 0.5": Variant("the paper's number, half of the way", {"power": 0.5}),
        "60, power 0.7": Variant("60 eigenvalues, 0.7 of the way", {"end": 60, "power": 0.7}),
        "up": Variant("raised to the largest eigenvalue, as under plain gradient descent", {"rule": "sgd"}),
        MEAN_PLAIN: Variant(
            "no adjustment, and the network begins near the mean of the picture", PLAIN, task=NEAR_MEAN
        ),
        MEAN_PAPER: Variant("the paper's, and the network begins there", task=NEAR_MEAN),
        DRAWN_PLAIN: Variant("no adjustment, the rate falling to nothing along a cosine", PLAIN, schedule="cosine"),
        PATCHES: Variant(
            "one eigenvalue for every 19 groups, under Muon 0.7 of the way, and the cosine",
            automatic=True,
            schedule="cosine",
        ),
        DRAWN: Variant(
            "along rows and columns, one eigenvalue for every 6 of the fewer, and the same else",
            automatic=True,
            schedule="cosine",
            task=_AXES,
        ),
        # Of networks behind an encoding nothing else.
        ALL_MUON: Variant(
            "the same, but Muon steps all matrices, and Adam the biases at a rate of 1e-3",
            automatic=True,
            schedule="cosine",
            task=_AXES | {"optimizer": OptimizerConfig("muon", adam_lr=1e-3, first_layer="muon")},
        ),
        DEFAULT_PLAIN: Variant(
            "what iga-image does without the adjustment: the cosine, from the mean",
            PLAIN,
            schedule="cosine",
            task=NEAR_MEAN,
        ),
        DEFAULT: Variant("what iga-image does: axes, from the mean", automatic=True, schedule="cosine", task=_BOTH),
        # About as long as plain training where an adjusted step takes two plain ones, as at the smallest sizes.
        HALF: Variant("the default in half of the steps", automatic=True, schedule="cosine", length=0.5, task=_BOTH),
        FIFTH: _short("a fifth", 0.2),
        TENTH: _short("a tenth", 0.1),
    }
    judged: ClassVar[tuple[Judged, ...]] = (
        *(("adam", variant) for variant in ("plain", "paper", MEAN_PLAIN, MEAN_PAPER)),
        *(("muon", variant) for variant in ("plain", "paper", "power 0.7", DRAWN_PLAIN, PATCHES, DRAWN, ALL_MUON)),
        *(("muon", variant) for variant in (DEFAULT_PLAIN, DEFAULT, HALF, FIFTH, TENTH)),
        *(("soap", variant) for variant in (DEFAULT_PLAIN, DEFAULT)),
    )
    pairs: ClassVar[tuple[tuple[Judged, Judged], ...]] = (
        (("adam", "paper"), ("adam", "plain")),
        (("adam", MEAN_PLAIN), ("adam", "plain")),
        (("adam", MEAN_PAPER), ("adam", MEAN_PLAIN)),
        (("muon", "plain"), ("adam", "plain")),
        (("muon", "paper"), ("muon", "plain")),
        (("muon", "power 0.7"), ("muon", "paper")),
        (("muon", DRAWN), ("muon", DRAWN_PLAIN)),
        (("muon", DRAWN), ("muon", PATCHES)),
        (("muon", DRAWN), ("muon", ALL_MUON)),
        (("muon", DEFAULT_PLAIN), ("muon", DRAWN_PLAIN)),
        (("muon", DEFAULT), ("muon", DRAWN)),
        (("muon", DEFAULT), ("muon", DEFAULT_PLAIN)),
        (("muon", DEFAULT), ("adam", "paper")),
        (("muon", HALF), ("muon", DEFAULT_PLAIN)),
        (("muon", TENTH), ("adam", "plain")),
        (("muon", FIFTH), ("adam", "plain")),
        (("muon", FIFTH), ("adam", "paper")),
        (("soap", DEFAULT_PLAIN), ("muon", DEFAULT_PLAIN)),
        (("soap", DEFAULT), ("soap", DEFAULT_PLAIN)),
        (("soap", DEFAULT), ("muon", DEFAULT)),
    )
    other_rates = (0.5, 2.0)

    @classmethod
    def gains(cls, figures: Figures) -> list[list[str]]:
        variants = {"adam": ("plain", "paper"), "muon": (DEFAULT_PLAIN, DEFAULT)}
        return gains_rows("images", "network", figures["judged"], "psnr", "image", variants)


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
