"""What the kernel of a batch of rays should be of: a small NeRF trained with every choice, over several seeds."""

from __future__ import annotations

import copy
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import tyro

from iga_nerfstudio.benchmark.cost.timing import step_costs
from iga_nerfstudio.benchmark.curves import mean_curve, to_quality
from iga_nerfstudio.benchmark.plots import draw_curves
from iga_nerfstudio.benchmark.studies.methods import RENDERING
from iga_nerfstudio.benchmark.studies.photographs import OptimizerKind
from iga_nerfstudio.benchmark.studies.variants import Variant
from iga_nerfstudio.benchmark.study import Figures, Study, Train
from iga_nerfstudio.benchmark.sweep import Outcome, Training
from iga_nerfstudio.benchmark.tables import (
    differences,
    finished,
    gain,
    gains_rows,
    grouped,
    number,
    spread,
    table,
    those,
)
from iga_nerfstudio.scenes.blender_layout import command_of

if TYPE_CHECKING:  # nerfstudio takes seconds, and pages do without
    from nerfstudio.engine.trainer import TrainerConfig

    from iga_nerfstudio.benchmark.studies.nerf_training import NerfTraining

# Samples of a ray in the fine pass: the coarse ones, as many again, and the resampler's further edge.
COARSE = 24
FINE = 2 * COARSE + 1


_PAPER = {"kernel_of": "samples", "power": 1.0, "floor": 0.0, "until": 1.0}
_VISIBLE, _RAYS = _PAPER | {"kernel_of": "visible"}, _PAPER | {"kernel_of": "rays"}
# Each says all that it depends on: its trainings stay those of a variant when a default changes.
VARIANTS = {
    "plain": Variant("no adjustment", {"enabled": False} | _PAPER),
    "heaviest": Variant("the sample of largest weight, as in the paper", _PAPER),
    "visible": Variant("the sample of largest weight, times the opacity of its ray", _VISIBLE),
    "power 0.7": Variant("the same, balanced 0.7 of the way on a logarithmic scale", _VISIBLE | {"power": 0.7}),
    "floor 0.03": Variant("visible, no direction slowed to less than 0.03 of its speed", _VISIBLE | {"floor": 0.03}),
    "rays": Variant("the rendered colours of the rays, exactly", _RAYS | {"num_representatives": FINE}),
    "rays-8": Variant("the rendered colours through the 8 heaviest samples", _RAYS | {"num_representatives": 8}),
}
# What the methods do, another thing under each optimiser, and how much of a training they do it for.
METHODS: dict[OptimizerKind, str] = {"adam": "floor 0.03", "muon": "visible"}
METHOD, THROUGHOUT = "method", "throughout"
UNTIL = {METHOD: 0.25, THROUGHOUT: 1.0}


def variant_of(name: str, optimizer: OptimizerKind) -> Variant:
    """A variant by its name; the method's own are another one under each optimiser."""
    if name not in UNTIL:
        return VARIANTS[name]
    base = VARIANTS[METHODS[optimizer]]
    return replace(base, changes=base.changes | {"until": UNTIL[name]})


def meaning_of(name: str) -> str:
    """A variant in words."""
    if name not in UNTIL:
        return VARIANTS[name].meaning
    kernels = "; ".join(
        f"under {optimizer.capitalize()}, {VARIANTS[own].meaning}" for optimizer, own in METHODS.items()
    )
    if name == THROUGHOUT:
        return f"{kernels}; to the end of the training"
    return f"{kernels}; in the first {UNTIL[name]:.0%} of the steps, and the rest is plain"


@dataclass(frozen=True)
class Rays(Study):
    """What the kernel of a batch of rays should be of: a small NeRF with every choice, under Adam and Muon."""

    name: ClassVar[str] = "rays"

    data: tuple[Path, ...]  # Folders of Blender scenes.
    variants: tuple[str, ...] = ("heaviest", METHOD)  # What to train beside the plain NeRF.
    optimizers: tuple[OptimizerKind, ...] = ("adam", "muon")  # Optimisers to train with.
    rates: tuple[float, ...] = (3e-3, 2e-2)  # Learning rate of each.
    seeds: tuple[int, ...] = (42, 43, 44)  # One training of each per seed.
    downscale_factors: tuple[int, ...] = (8, 4, 2, 2)  # Images are shrunk by them, those of each scene by its own.
    test_skip: int = 3  # Every that many test views are evaluated.
    num_rays: int = 256  # Rays of a step.
    num_layers: int = 3  # Layers of each field's trunk.
    hidden_dim: int = 64  # Their width.
    max_num_iterations: int = 1500  # Training steps; the learning rate falls to 3 percent over them.
    curve_points: int = 3  # How often the test views are rendered.
    rounds: int = 15  # Timed rounds of steps.
    one_image: bool = False  # Draw a step's rays from one image under Adam too, its middle first, as in the paper.
    device: Literal["cpu", "cuda"] = "cpu"  # Where to train.

    def measure(self, train: Train) -> Figures:
        known = (*UNTIL, *VARIANTS)
        if not set(self.variants).issubset(known) or not self.seeds or not self.optimizers:
            raise ValueError(
                f"Name at least one seed and one optimizer, and variants of {', '.join(known)}; got {self.variants}."
            )
        if len(self.data) != len(self.downscale_factors) or len(self.optimizers) != len(self.rates) or not self.data:
            raise ValueError(
                f"Give every scene its factor and every optimizer its rate: got {len(self.data)} scenes, "
                f"{self.downscale_factors}, {self.optimizers}, {self.rates}."
            )
        trainings = train(list(self.trainings()))
        commands = {scene.name: command for scene in self.data if (command := command_of(scene))}
        return {"trainings": trainings, "step_costs": self.step_costs(), "built_in": commands}

    def trainings(self) -> Iterator[Training]:
        """Every variant on every scene under every optimiser with every seed."""
        scenes = zip(self.data, self.downscale_factors, strict=True)
        names = dict.fromkeys(("plain", *self.variants))
        for (scene, factor), optimizer, variant, seed in product(scenes, self.optimizers, names, self.seeds):
            yield self.training(scene, factor, optimizer, variant, seed)

    def training(self, scene: Path, factor: int, optimizer: OptimizerKind, variant: str, seed: int) -> Training:
        """One training."""
        labels = {"scene": scene.name, "variant": variant, "optimizer": optimizer, "seed": seed}
        settings = {"config": self.config(scene, factor, optimizer, variant), "seed": seed}
        length = {"num_iterations": self.max_num_iterations, "curve_points": self.curve_points}
        settings |= {"device": self.device} | RENDERING
        return Training(labels, train_nerf, settings | length)

    def config(self, scene: Path, factor: int, optimizer: OptimizerKind, variant: str) -> TrainerConfig:
        """The settings of a training, as ``ns-train`` would have them."""
        from iga_nerfstudio.nerf.datamanager import SingleImagePixelSamplerConfig
        from iga_nerfstudio.nerf.method_configs import iga_nerf_muon, iga_nerf_tiny
        from iga_nerfstudio.nerf.schedulers import PowerDecaySchedulerConfig

        config: Any = copy.deepcopy(iga_nerf_tiny.config)
        data, model = config.pipeline.datamanager, config.pipeline.model
        data.data = scene
        data.dataparser.downscale_factor, data.dataparser.test_skip = factor, self.test_skip
        data.train_num_rays_per_batch = data.eval_num_rays_per_batch = self.num_rays
        if self.one_image or optimizer == "muon":
            data.pixel_sampler = SingleImagePixelSamplerConfig(crop_steps=200)
        model.num_coarse_samples = model.num_importance_samples = COARSE
        model.num_layers, model.hidden_dim = self.num_layers, self.hidden_dim
        model.adjustment = replace(model.adjustment, **variant_of(variant, optimizer).changes)
        rate = self.rates[self.optimizers.index(optimizer)]
        source = {"adam": iga_nerf_tiny, "muon": iga_nerf_muon}[optimizer].config
        fields = {
            "optimizer": replace(source.optimizers["fields"]["optimizer"], lr=rate),
            "scheduler": PowerDecaySchedulerConfig(decay_rate=0.03, decay_steps=self.max_num_iterations),
        }
        return replace(config, optimizers={"fields": fields})

    def step_costs(self) -> dict[str, float]:
        """Seconds of a step of each variant over those of a plain one, timed alternately after a fifth of a training:
        at first no ray is empty, and later on more of them are."""
        from iga_nerfstudio.benchmark.studies.nerf_training import NerfTraining

        first = (self.data[0], self.downscale_factors[0], self.optimizers[0])
        names = ("plain", *self.variants)
        steps = {variant: NerfTraining(self.config(*first, variant), self.device, 0).step for variant in names}
        for step in steps.values():
            for _ in range(self.max_num_iterations // 5):
                step()
        return step_costs(steps, "plain", self.rounds)

    @classmethod
    def section(cls, figures: Figures, stem: str) -> str:
        meanings = "\n".join(f"- {name}: {meaning_of(name)}." for name in figures["step_costs"])
        # Not in results of earlier versions.
        meanings += "".join(f"\n- {name}: `{made}`." for name, made in figures.get("built_in", {}).items())
        parts = [
            f"""## {", ".join(figures["data"])}, {figures["max_num_iterations"]} steps

Images shrunk by {", ".join(map(str, figures["downscale_factors"]))}, one of {figures["test_skip"]} test views; fields \
of {figures["num_layers"]} x {figures["hidden_dim"]}, {figures["num_rays"]} rays a step, \
{_images(figures)}; {COARSE} + {FINE - COARSE} samples a ray, learning rates fall to 3 percent\
{", on a GPU" if figures.get("device") == "cuda" else ""}; seeds \
{", ".join(map(str, figures["seeds"]))}.

{meanings}
"""
        ]
        pairs = list(zip(figures["optimizers"], figures["rates"], strict=True))
        for scene in figures["data"]:
            runs = those(figures["trainings"], scene=scene)
            parts += [f"### {scene}\n", *(_table(figures, runs, *pair) for pair in pairs)]
            parts.append(f"![{scene}: gain in test PSNR over steps]({stem}_{scene}_gains.png)\n")
        return "\n".join(filter(None, [*parts, _words(figures), _empty(figures)]))

    @classmethod
    def draw(cls, figures: Figures, path: Path) -> None:
        for scene in figures["data"]:
            panels = {}
            for optimizer in figures["optimizers"]:
                runs = those(figures["trainings"], scene=scene, optimizer=optimizer)
                curves = {name: mean_curve(those(runs, variant=name)) for name in figures["step_costs"]}
                panels[optimizer.capitalize()] = {
                    name: [
                        (step, ours - plain) for (step, ours), (_, plain) in zip(curve, curves["plain"], strict=True)
                    ]
                    for name, curve in curves.items()
                }
            picture = path.with_name(f"{path.name}_{scene}_gains.png")
            draw_curves(panels, picture, "test PSNR over plain training's (dB)")

    @classmethod
    def gains(cls, figures: Figures) -> list[list[str]]:
        if set(figures["optimizers"]) != set(METHODS) or METHOD not in figures["variants"]:
            return []
        if figures.get("one_image", True):  # as iga-nerf-tiny once did
            return []
        variants = dict.fromkeys(METHODS, ("plain", METHOD))
        return gains_rows("NeRF", "scene", figures["trainings"], "psnr", "scene", variants)


def _images(figures: Figures) -> str:
    """Of which images a step's rays are; of one in results of earlier versions."""
    one = "of one image, in the first 200 steps of its middle"
    return one if figures.get("one_image", True) else f"under Adam of all images, under Muon {one}"


def _table(figures: Figures, runs: Sequence[Outcome], optimizer: OptimizerKind, rate: float) -> str:
    runs = those(runs, optimizer=optimizer)
    plain = those(runs, variant="plain")
    base = mean_curve(plain)
    rows = []
    for variant, cost in figures["step_costs"].items():
        own = those(runs, variant=variant)
        gains = [gain(differences(own, plain, metric)) for metric in ("psnr", "median_psnr")]
        until = variant_of(variant, optimizer).changes["until"]
        rows.append(
            [
                *(variant, spread(own, "psnr"), *([""] * 2 if variant == "plain" else gains)),
                *(f"{cost:.2f}", *to_quality(mean_curve(own), base, cost, until)),
                number(_see_nothing(own)),
            ]
        )
    head = ("kernel", "PSNR", "gain (of how many seeds)", "gain of the median view", "adjusted step / plain")
    return (
        f"{optimizer.capitalize()}, learning rate {rate:g}:\n\n"
        f"{table((*head, 'steps to quality', 'seconds to quality', 'rays that see nothing'), rows)}"
    )


def _see_nothing(runs: Sequence[Outcome]) -> float | None:
    """Share of the last step's rays; where it is small for what the views show, there are walls before nothing."""
    shares = [run["empty"][-1][1] for run in finished(runs)]
    return statistics.mean(shares) if shares else None


def _words(figures: Figures) -> str:
    """What every kernel gains over plain training, over all scenes."""
    lines = []
    for optimizer in figures["optimizers"]:
        runs = those(figures["trainings"], optimizer=optimizer)
        plain = those(runs, variant="plain")
        gains = [
            f"{variant} {gain(differences(those(runs, variant=variant), plain, 'psnr', 'scene'))}"
            for variant in figures["step_costs"]
            if variant != "plain"
        ]
        lines.append(f"- {optimizer.capitalize()}, gain over plain on all scenes and seeds: {', '.join(gains)} dB.\n")
    return "".join(lines)


def _empty(figures: Figures) -> str:
    """What the paper's kernel, and others, do to rays that see nothing, while they adjust."""
    rows = []
    adjusted = [run for run in finished(figures["trainings"]) if run["variant"] != "plain"]
    for (scene, optimizer, variant), own in grouped(adjusted, "scene", "optimizer", "variant").items():
        points = np.mean([run["empty"] for run in own], axis=0)
        for step, *shares in points[[0, -1]]:
            if step > variant_of(variant, optimizer).changes["until"] * points[-1, 0]:  # plain by then
                continue
            rows.append([scene, optimizer.capitalize(), variant, f"{step:.0f}", *map("{:.2f}".format, shares)])
    if not rows:
        return ""
    head = ("scene", "", "kernel", "step", "empty, of the rays", "of the balanced eigenvectors")
    return f"""Rays that see nothing (opacity below a tenth): their share of the rays of a step and of the squared \
entries of the balanced eigenvectors, and how much of a ray's own gradient the transform keeps, of theirs and of the \
others'. Means over the seeds, early and after the last step.

{table((*head, "kept of theirs", "kept of the others'"), rows)}"""


def train_nerf(settings: dict[str, Any]) -> Outcome:
    """Train once; test PSNR on the way and after the last step."""
    from iga_nerfstudio.benchmark.studies.nerf_training import NerfTraining

    steps = settings["num_iterations"]
    training = NerfTraining(settings["config"], settings["device"], settings["seed"], steps)
    between = max(steps // settings["curve_points"], 1)
    curve, empty = [], []
    views: list[float] = []
    while training.count < steps:
        training.step()
        if training.count % between == 0 or training.count == steps:
            empty.append([training.count, *empty_rays(training)])
            views = training.psnr_of_views()
            curve.append([training.count, round(statistics.mean(views), 3)])
    return {
        "psnr": statistics.mean(views),
        "median_psnr": statistics.median(views),
        "psnr_of_views": [round(view, 2) for view in views],
        "steps_unadjusted": training.pipeline.model.adjuster.diagnostics.steps_unadjusted,
        "curve": curve,
        "empty": empty,
    }


def empty_rays(training: NerfTraining) -> tuple[float, float, float, float]:
    """Of the rays of the latest step that see nothing, of opacity below a tenth: their share of the rays; of the
    balanced eigenvectors (squared entries); and what the transform keeps of a ray's own gradient (mean of S's diagonal)
    of theirs and of the others'. Without an adjustment it keeps all."""
    empty = training.outputs["accumulation"].detach()[:, 0] < 0.1
    adjuster = training.pipeline.model.adjuster
    transform = adjuster._transform if adjuster.enabled else None  # not the last one, of other rays
    share = empty.float().mean().item()
    if transform is None or not 0 < share < 1:
        return share, share, 1.0, 1.0
    owned = transform.vectors.square()
    kept = 1 + owned @ transform.coefficients
    numbers = (share, owned[empty].sum().item() / owned.shape[1], kept[empty].mean().item(), kept[~empty].mean().item())
    return tuple(round(number, 4) for number in numbers)


PRESETS = {
    "smoke": Rays(tyro.MISSING, ("heaviest",), ("adam",), (3e-3,), (42,), (1,), 2, 64, 3, 16, 6, 2, 1),
    "cpu": Rays(tyro.MISSING),
}
