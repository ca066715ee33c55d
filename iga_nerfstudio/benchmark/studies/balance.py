"""How to balance, under which optimiser and schedule: chosen on some photographs, judged on others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import tyro

from iga_nerfstudio.benchmark.studies.variants import PLAIN, Judged, Variant, Variants
from iga_nerfstudio.benchmark.study import Figures
from iga_nerfstudio.benchmark.tables import gains_rows
from iga_nerfstudio.devices import default_device
from iga_nerfstudio.tasks.config import OptimizerConfig

# iga-image's default under Muon, and the same without the adjustment.
DEFAULT, DEFAULT_PLAIN = "default", "plain, cosine"
HALF, FIFTH, TENTH = "default, half", "default, a fifth", "default, a tenth"
PATCHES, ALL_MUON = "patches", "default, all layers by Muon"
MEAN_PLAIN, MEAN_PAPER = "plain, from the mean", "paper, from the mean"
DRAWN_PLAIN, DRAWN = "plain, cosine, as drawn", "default, as drawn"
_AXES = {"grouping": "axes"}
_MEAN, _AS_DRAWN = {"first_output": "mean"}, {"first_output": "drawn"}


def _short(share: str, length: float) -> Variant:
    # Muon's own momentum is of 20 steps, too many of so few.
    task = _AXES | {"optimizer": OptimizerConfig("muon", momentum=0.9)}
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
        DEFAULT_PLAIN: Variant("no adjustment, the rate falling to nothing along a cosine", PLAIN, schedule="cosine"),
        PATCHES: Variant(
            "one eigenvalue for every 19 groups, under Muon 0.7 of the way, and the cosine",
            automatic=True,
            schedule="cosine",
        ),
        DEFAULT: Variant(
            "what iga-image does: along rows and columns, one eigenvalue for every 6 of the fewer, and the same else",
            automatic=True,
            schedule="cosine",
            task=_AXES,
        ),
        # About as long as plain training where an adjusted step takes two plain ones, as at the smallest sizes.
        HALF: Variant("the default in half of the steps", automatic=True, schedule="cosine", length=0.5, task=_AXES),
        # What Muon and SOAP begin with anyway.
        MEAN_PLAIN: Variant("plain, and the network begins near the mean of the picture", PLAIN, task=_MEAN),
        MEAN_PAPER: Variant("paper, and the network begins there", task=_MEAN),
        DRAWN_PLAIN: Variant(
            "plain, cosine, but the network begins with its weights as they are drawn",
            PLAIN,
            schedule="cosine",
            task=_AS_DRAWN,
        ),
        DRAWN: Variant(
            "the default, but the network begins so", automatic=True, schedule="cosine", task=_AXES | _AS_DRAWN
        ),
        # Of networks behind an encoding nothing else than the default.
        ALL_MUON: Variant(
            "the default, but Muon steps all matrices, and Adam the biases at a rate of 1e-3",
            automatic=True,
            schedule="cosine",
            task=_AXES | {"optimizer": OptimizerConfig("muon", adam_lr=1e-3, first_layer="muon")},
        ),
        FIFTH: _short("a fifth", 0.2),
        TENTH: _short("a tenth", 0.1),
    }
    judged: ClassVar[tuple[Judged, ...]] = (
        ("adam", "plain"),
        ("adam", "paper"),
        ("adam", MEAN_PLAIN),
        ("adam", MEAN_PAPER),
        ("muon", "plain"),
        ("muon", "paper"),
        ("muon", "power 0.7"),
        ("muon", DEFAULT_PLAIN),
        ("muon", PATCHES),
        ("muon", DEFAULT),
        ("muon", ALL_MUON),
        ("muon", DRAWN_PLAIN),
        ("muon", DRAWN),
        ("muon", HALF),
        ("muon", FIFTH),
        ("muon", TENTH),
        ("soap", DEFAULT_PLAIN),
        ("soap", DEFAULT),
    )
    pairs: ClassVar[tuple[tuple[Judged, Judged], ...]] = (
        (("adam", "paper"), ("adam", "plain")),
        (("adam", MEAN_PLAIN), ("adam", "plain")),
        (("adam", MEAN_PAPER), ("adam", MEAN_PLAIN)),
        (("muon", "plain"), ("adam", MEAN_PLAIN)),
        (("muon", "paper"), ("muon", "plain")),
        (("muon", "power 0.7"), ("muon", "paper")),
        (("muon", DEFAULT), ("muon", DEFAULT_PLAIN)),
        (("muon", DEFAULT), ("muon", PATCHES)),
        (("muon", DEFAULT), ("adam", "paper")),
        (("muon", DEFAULT), ("muon", ALL_MUON)),
        (("muon", DEFAULT_PLAIN), ("muon", DRAWN_PLAIN)),
        (("muon", DEFAULT), ("muon", DRAWN)),
        (("muon", DRAWN), ("muon", DRAWN_PLAIN)),
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
