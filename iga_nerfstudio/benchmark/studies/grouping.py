"""Patches of a photograph, as the paper has them, or its rows and columns, at sizes where a patch has many pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import tyro

from iga_nerfstudio.benchmark.studies.balance import DEFAULT, DEFAULT_PLAIN
from iga_nerfstudio.benchmark.studies.variants import NEAR_MEAN, PLAIN, Judged, Variant, Variants
from iga_nerfstudio.devices import default_device


def _variant(meaning: str, grouping: str, **changes: float | bool | str) -> Variant:
    return Variant(meaning, changes, automatic=True, schedule="cosine", task={"grouping": grouping})


def from_the_mean(meaning: str, variant: Variant) -> Variant:
    """A variant of networks that begin near the mean of the picture, not with their weights as they are drawn."""
    return replace(variant, meaning=meaning, task=variant.task | NEAR_MEAN)


_PLAIN = replace(_variant("no adjustment", "patches", **PLAIN), task={})
_AXES = _variant("rows and columns, a kernel of each", "axes")


@dataclass(frozen=True)
class Grouping(Variants):
    """Adjustment by patches or along axes: chosen on some photographs, judged on others."""

    name: ClassVar[str] = "grouping"
    variants: ClassVar[dict[str, Variant]] = {
        "plain": _PLAIN,
        "patches": _variant("patches, and the rest as iga-image has it", "patches"),
        "patches, before": _variant(
            "the same by the largest residuals of the step before, as where a step takes the picture in chunks",
            "patches",
            representative="previous_residual",
        ),
        "axes": _AXES,
        "axes, few": _variant("the same by 10 eigenvalues, 0.4 of the way", "axes", end=10, power=0.4),
        DEFAULT_PLAIN: from_the_mean("plain, and the network begins near the mean of the picture", _PLAIN),
        DEFAULT: from_the_mean("what iga-image does: axes, and the network begins there", _AXES),
    }
    judged: ClassVar[tuple[Judged, ...]] = tuple(
        ("muon", variant) for variant in ("plain", "patches", "patches, before", "axes", DEFAULT_PLAIN, DEFAULT)
    )
    pairs: ClassVar[tuple[tuple[Judged, Judged], ...]] = (
        (("muon", "patches"), ("muon", "plain")),
        (("muon", "patches, before"), ("muon", "patches")),
        (("muon", "axes"), ("muon", "plain")),
        (("muon", "axes"), ("muon", "patches")),
        (("muon", DEFAULT_PLAIN), ("muon", "plain")),
        (("muon", DEFAULT), ("muon", DEFAULT_PLAIN)),
        (("muon", DEFAULT), ("muon", "axes")),
    )

    max_side: int = 384
    max_num_iterations: int = 300
    curve_points: int = 10
    seeds: tuple[int, ...] = (42,)


PRESETS = {
    "smoke": Grouping(
        *(tyro.MISSING, 48, 16, 6, 3), chosen_on=("kodim01",), held_out=("kodim02",), networks=("pe",), rounds=2
    ),
    "cpu": Grouping(tyro.MISSING),
    "full": Grouping(*(tyro.MISSING, 768, 256, 2000, 20), device=default_device()),
}
