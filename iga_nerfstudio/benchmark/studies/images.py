"""Every network on photographs: plain, with IGA, and with the baselines FR and BN (Tables 1, 5 and 8 to 11)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal, get_args

import tyro

from iga_nerfstudio.benchmark import paper
from iga_nerfstudio.benchmark.paper import NAMES, sizes
from iga_nerfstudio.benchmark.studies.photographs import Entry, OptimizerKind, Photographs, by_entry, train_and_judge
from iga_nerfstudio.benchmark.study import Figures, Train
from iga_nerfstudio.benchmark.sweep import Outcome
from iga_nerfstudio.benchmark.tables import (
    by_optimizer,
    differences,
    gain,
    gains_rows,
    mean,
    number,
    spread,
    those,
    with_gain,
)
from iga_nerfstudio.devices import default_device
from iga_nerfstudio.networks import FourierReparameterisation
from iga_nerfstudio.networks.builder import NetworkKind
from iga_nerfstudio.tasks.image import ImageConfig
from iga_nerfstudio.tasks.optimizers import rate_family

Variant = Literal["plain", "iga", "fr", "bn"]

# Networks of the paper, and the baselines that it defines for each.
NETWORKS: dict[NetworkKind, tuple[Variant, ...]] = {
    "relu": ("plain", "iga", "fr", "bn"),
    "pe": ("plain", "iga", "fr", "bn"),
    "siren": ("plain", "iga", "fr"),
    "gauss_finer": ("plain", "iga"),
    "wire_finer": ("plain", "iga"),
    "finer": ("plain", "iga"),
}
# Learning rates tried, by the family of networks.
_Rates = tuple[float, float]
_RATES: dict[OptimizerKind, tuple[_Rates, _Rates, _Rates]] = {
    "adam": ((5e-3, 1e-2), (5e-3, 1e-2), (1e-3, 3e-3)),
    "muon": ((4e-2, 8e-2), (2e-2, 4e-2), (3e-3, 6e-3)),
}
COLUMNS = (
    *("network", "variant", "rate", "PSNR", "gain (in how many cases)", "best PSNR", "SSIM", "MS-SSIM", "LPIPS"),
    *("on [0, 1]", "paper: PSNR", "paper: SSIM", "paper: MS-SSIM", "paper: LPIPS on [0, 1]"),
)


@dataclass(frozen=True)
class Images(Photographs):
    """Every network on photographs: plain, IGA, FR and BN (Tables 1, 5 and 8 to 11)."""

    name: ClassVar[str] = "images"

    rates_on: str = "kodim01"  # The photograph on which learning rates are chosen.
    images: tuple[str, ...] = ("kodim02", "kodim03")  # Those that are judged.
    networks: tuple[NetworkKind, ...] = tuple(NETWORKS)  # Networks to train.
    # What to train of plain, IGA and, under Adam and where defined, FR and BN.
    variants: tuple[Variant, ...] = ("plain", "iga", "fr", "bn")
    # Optimisers to train with, both along the paper's schedule.
    optimizers: tuple[OptimizerKind, ...] = ("adam", "muon")
    paper_rates: bool = False  # Under Adam train at the paper's learning rates, instead of the best of some.
    lpips_backbone: Path | None = None  # AlexNet weights for LPIPS; torch's cache, or a download, if not given.

    def measure(self, train: Train) -> Figures:
        return dict(self.judge(list(self.entries()), self.rates_on, self.images, train))

    def entries(self) -> Iterator[Entry]:
        """What is compared."""
        for optimizer in self.optimizers:
            for network in self.networks:
                # The baselines are Adam's.
                for variant in NETWORKS[network] if optimizer == "adam" else ("plain", "iga"):
                    if variant in self.variants:
                        labels = {"network": network, "optimizer": optimizer, "variant": variant}
                        config = self.config_of(network, variant, optimizer)
                        yield Entry(labels, config, self.rates(network, variant, optimizer), train_and_judge)

    def rates(self, network: NetworkKind, variant: Variant, optimizer: OptimizerKind) -> tuple[float, ...]:
        """Learning rates to try. FR also gets a far smaller one: its many bases multiply every step."""
        if self.paper_rates and optimizer == "adam":
            return (paper.photograph_rate(network, variant),)
        rates = _RATES[optimizer][rate_family(network)]
        return (rates[0] / 5, *rates) if variant == "fr" else rates

    def config_of(self, network: NetworkKind, variant: Variant, optimizer: OptimizerKind) -> ImageConfig:
        """The settings of an entry."""
        config = self.config(network, optimizer)
        return replace(
            config,
            network=replace(
                config.network,
                fourier_reparameterisation=FourierReparameterisation(enabled=variant == "fr"),
                batch_norm=variant == "bn",
            ),
            adjustment=replace(config.adjustment, enabled=variant == "iga"),
            lpips_backbone=self.lpips_backbone,
            lpips_parity=True,
        )

    @classmethod
    def section(cls, figures: Figures, stem: str) -> str:
        rates = (
            "the paper's learning rates under Adam"
            if figures["paper_rates"]
            else f"the learning rate that did best on {figures['rates_on']}, of two for each entry, of three for FR"
        )
        head = f"""## {", ".join(figures["images"])} at {figures["max_side"]} pixels, \
{figures["max_num_iterations"]} steps

3 hidden layers x {figures["hidden_dim"]}, seeds {", ".join(map(str, figures["seeds"]))}, {rates}. \
{sizes(figures, FULL)}
"""

        def rows(runs: list[Outcome]) -> list[list[str]]:
            return [_row(own, those(runs, network=own[0]["network"]), figures) for own in by_entry(runs).values()]

        return "\n".join([head, *by_optimizer(figures["judged"], COLUMNS, rows, "psnr", "image")])

    @classmethod
    def gains(cls, figures: Figures) -> list[list[str]]:
        # The others are judged in the study of balances, at what is the default.
        runs = [run for run in figures["judged"] if run["network"] not in get_args(paper.Network)]
        return gains_rows("images", "network", runs, "psnr", "image")


def _row(own: list[Outcome], of_network: list[Outcome], figures: Figures) -> list[str]:
    """The cells of COLUMNS; the paper's are empty under Muon, which it does not have."""
    network, variant = own[0]["network"], own[0]["variant"]
    cells = [network, NAMES[variant], f"{own[0]['lr']:g}", spread(own, "psnr")]
    plain = those(of_network, variant="plain")
    cells.append("" if variant == "plain" else gain(differences(own, plain, "psnr", "image")))
    cells += [number(mean(own, "best_psnr"))]
    cells += [number(mean(own, name), ".4f") for name in ("ssim", "ms_ssim", "lpips", "lpips_unscaled")]
    if own[0]["optimizer"] != "adam":
        return [*cells, "", "", "", ""]
    psnr, theirs = (_paper(network, name, "psnr", figures) for name in (variant, "plain"))
    others = (_paper(network, variant, metric, figures) for metric in ("ssim", "ms_ssim", "lpips"))
    return [*cells, with_gain(psnr, theirs), *(number(value, ".4f") for value in others)]


def _paper(network: str, variant: str, metric: str, figures: Figures) -> float | None:
    """The paper's mean over the images; that over all of its own where it has no rows by image."""
    mean_of_all = paper.number("image", network, variant, metric)
    return mean_of_all or paper.number("image", network, variant, metric, figures["images"])


# What decides whether a result's sizes are the paper's.
FULL: Figures = {"max_side": 768, "hidden_dim": 256, "max_num_iterations": 10_000}
PRESETS = {
    "smoke": Images(
        *(tyro.MISSING, 32, 16, 10, 2, (42,)),
        images=("kodim02",),
        networks=("relu", "pe", "siren"),
        optimizers=("adam",),
        paper_rates=True,
    ),
    "cpu": Images(tyro.MISSING),
    "full": Images(
        *(tyro.MISSING, 768, 256, 10_000),
        device=default_device(),
        images=paper.KODAK,
        optimizers=("adam",),
        paper_rates=True,
    ),
}
