"""Does it learn the picture or its noise? Noisy photographs are judged by the clean ones, some pixels by the others."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

import torch
import tyro

from iga_nerfstudio.benchmark.curves import mean_curve
from iga_nerfstudio.benchmark.paper import Network
from iga_nerfstudio.benchmark.plots import draw_curves
from iga_nerfstudio.benchmark.studies.photographs import Entry, Photographs, outcome_of
from iga_nerfstudio.benchmark.studies.variants import RATES
from iga_nerfstudio.benchmark.study import Figures, Train
from iga_nerfstudio.benchmark.sweep import Outcome, whole
from iga_nerfstudio.benchmark.tables import differences, gain, grouped, mean, number, spread, table
from iga_nerfstudio.devices import default_device
from iga_nerfstudio.evaluation.metrics import psnr
from iga_nerfstudio.networks import CoordinateMLP
from iga_nerfstudio.tasks.config import ScheduleConfig, TaskAdjustmentConfig
from iga_nerfstudio.tasks.image import ImageConfig, ImageTask, load_image_task, render_image


@dataclass
class PartConfig(ImageConfig):
    """What is fitted in place of a photograph."""

    sigma: float | None = None  # It with so much noise; if not given, every second pixel of every second row.


class PartTask(ImageTask):
    """Fits what a configuration says of a photograph, and is judged by what that does not show."""

    def __init__(self, config: PartConfig) -> None:
        image = load_image_task(config).image
        rows, columns = image.shape[:2]
        if config.sigma is None:
            # The first and last of each row and column are fitted: all others lie between some.
            self._clean = image[: rows - 1 + rows % 2, : columns - 1 + columns % 2]
            self._judged = torch.ones(self._clean.shape[:2], dtype=torch.bool)
            self._judged[::2, ::2] = False
            fitted = self._clean[::2, ::2]
        else:
            self._clean, self._judged = image, torch.ones(rows, columns, dtype=torch.bool)
            noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(config.machine.seed))
            fitted = (image + config.sigma * noise).clamp(0, 1)
        super().__init__(config, fitted.numpy())

    def evaluate(self, network: CoordinateMLP) -> dict[str, float]:
        """PSNR in dB where it is judged."""
        found = render_image(network, (self._clean.shape[0], self._clean.shape[1]), self._chunk)
        return {"psnr": psnr(found[self._judged], self._clean[self._judged])}


def train_part(config: PartConfig) -> Outcome:
    """Train once; PSNR along the training, and when it was best."""
    outcome = outcome_of(whole(PartTask(config).trainer().train()))
    return outcome | {"best_step": max(outcome["curve"], key=lambda point: point[1])[0]}


@dataclass(frozen=True)
class Noise(Photographs):
    """What is learned of noisy photographs, and between the pixels of others."""

    name: ClassVar[str] = "noise"

    photographs: tuple[str, ...] = ("kodim04", "kodim05", "kodim07")
    networks: tuple[Network, ...] = ("relu", "pe", "siren")
    sigmas: tuple[float, ...] = (0.05, 0.1)  # Standard deviations of the noise, of values in [0, 1].

    def measure(self, train: Train) -> Figures:
        every = product(self.networks, (*self.sigmas, None), (False, True))
        entries = [self.entry(network, sigma, adjusted) for network, sigma, adjusted in every]
        return {"trainings": self.judge(entries, "", self.photographs, train)["judged"]}

    def entry(self, network: Network, sigma: float | None, adjusted: bool) -> Entry:
        """A network on what is made of a photograph, as iga-image trains it in patches and with weights as drawn."""
        automatic: dict[str, Any] = {
            "adjustment": TaskAdjustmentConfig(enabled=adjusted),
            "schedule": ScheduleConfig(),
        }
        config = PartConfig(**vars(self.config(network, "muon")) | automatic, sigma=sigma)
        fitted = "every second pixel" if sigma is None else f"noise of {sigma:g}"
        labels = {"network": network, "fitted": fitted, "variant": "IGA" if adjusted else "plain"}
        return Entry(labels, config, (RATES["muon"][network],), train_part)

    @classmethod
    def section(cls, figures: Figures, stem: str) -> str:
        rows = []
        for (network, fitted), own in grouped(figures["trainings"], "network", "fitted").items():
            plain, ours = (grouped(own, "variant")[(variant,)] for variant in ("plain", "IGA"))
            rows.append(
                [network, fitted]
                + [cell for runs in (plain, ours) for cell in (spread(runs, "psnr"), spread(runs, "best_psnr"))]
                + [gain(differences(ours, plain, name, "image")) for name in ("psnr", "best_psnr")]
                + [" / ".join(number(mean(runs, "best_step"), ".0f") for runs in (plain, ours))]
            )
        head = ["network", "fitted", "plain, last", "best", "IGA, last", "best", "gain, last", "best", "best at step"]
        return f"""## {figures["max_side"]} pixels, {figures["max_num_iterations"]} steps

3 hidden layers x {figures["hidden_dim"]} under Muon along a cosine, adjusted in patches, \
{", ".join(figures["photographs"])}, seeds {", ".join(map(str, figures["seeds"]))}.

{table(head, rows)}
![PSNR where nothing was shown, along the training]({stem}_curves.png)
"""

    @classmethod
    def draw(cls, figures: Figures, path: Path) -> None:
        panels: dict[str, dict[str, Any]] = {}
        for (network, fitted, variant), own in grouped(figures["trainings"], "network", "fitted", "variant").items():
            panels.setdefault(network, {})[f"{variant}, {fitted}"] = mean_curve(own)
        draw_curves(panels, path.with_name(f"{path.name}_curves.png"), "PSNR (dB)")


PRESETS = {
    "smoke": Noise(*(tyro.MISSING, 32, 16, 6, 3, (42,)), photographs=("kodim01",), networks=("pe",), sigmas=(0.1,)),
    "cpu": Noise(tyro.MISSING),
    "full": Noise(*(tyro.MISSING, 768, 256, 2000), device=default_device()),
}
