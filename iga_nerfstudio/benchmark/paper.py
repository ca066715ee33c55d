"""The paper's settings, from ``configs/``, and its numbers, from ``paper.csv``: Tables 4 to 14 by our names."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

from iga_nerfstudio.networks.builder import NetworkKind
from iga_nerfstudio.tasks.config_files import read_preset, recipe_folder
from iga_nerfstudio.tasks.image import ImageConfig

# Its networks that are also compared under Muon, in shapes and in the ablations.
Network = Literal["relu", "pe", "siren"]


def photograph_settings(network: NetworkKind) -> ImageConfig:
    """How it trains a network with IGA on a Kodak image."""
    return read_preset(f"kodak_{network.removesuffix('_finer')}", ImageConfig)


def scene_settings(scene: str) -> dict[str, Any]:
    """Options of ``ns-train iga-nerf`` for a Blender scene; none for scenes that it does not have."""
    path = recipe_folder() / "blender" / f"{scene}.yaml"
    settings = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return {f"--{name.replace('_', '-')}": value for name, value in settings.items()}


# Adam's learning rates without IGA: 1e-3 for images, but for these; 2e-3 for shapes, but for SIREN.
RATES: dict[tuple[str, str], float] = {("relu", "fr"): 5e-3, ("pe", "bn"): 3e-3}
SHAPE_RATES: dict[str, float] = {"relu": 2e-3, "pe": 2e-3, "siren": 5e-4}

NAMES = {"plain": "plain", "iga": "IGA", "fr": "FR", "bn": "BN"}
KODAK = tuple(f"kodim0{i}" for i in range(1, 9))
SHAPES = ("thai", "armadillo", "dragon", "bunny", "lucy")


def photograph_rate(network: NetworkKind, variant: str) -> float:
    """Adam's learning rate of a network on a Kodak image, plain or by one of its variants."""
    adjusted = photograph_settings(network).optimizer.lr or 0.0
    return adjusted if variant == "iga" else RATES.get((network, variant), 1e-3)


@cache
def _numbers() -> dict[tuple[str, str, str, str], dict[str, float]]:
    """By kind, network (or task), variant and metric: numbers by subject (an image, a shape, a scene)."""
    found: dict[tuple[str, str, str, str], dict[str, float]] = {}
    with Path(__file__).with_suffix(".csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            key = (row["kind"], row["network"], row["variant"], row["metric"])
            found.setdefault(key, {})[row["subject"]] = float(row["value"])
    return found


def number(kind: str, network: str, variant: str, metric: str, subjects: Sequence[str] = ("mean",)) -> float | None:
    """A number of the paper, a mean over some subjects; None if it lacks one of them."""
    row = _numbers().get((kind, network, variant, metric), {})
    return statistics.mean(row[name] for name in subjects) if set(subjects) <= set(row) else None


def sizes(figures: dict[str, Any], full: dict[str, Any]) -> str:
    """In words: whether the sizes are the paper's."""
    if all(figures.get(name) == value for name, value in full.items()):
        return "The sizes are the paper's."
    return "**The sizes are not the paper's**: compare gains rather than values."
