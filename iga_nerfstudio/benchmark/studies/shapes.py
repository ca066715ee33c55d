"""Shapes with and without the adjustment: IoU, Chamfer distance, meshes (Tables 2, 12 and 13)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import ClassVar, Literal

import tyro

from iga_nerfstudio.benchmark import paper
from iga_nerfstudio.benchmark.paper import NAMES, Network, sizes
from iga_nerfstudio.benchmark.studies.photographs import OptimizerKind, optimizer_settings
from iga_nerfstudio.benchmark.study import Figures, Study, Train
from iga_nerfstudio.benchmark.sweep import Outcome, Training, whole
from iga_nerfstudio.benchmark.tables import by_optimizer, differences, gain, gains_rows, grouped, number, spread, those
from iga_nerfstudio.devices import default_device
from iga_nerfstudio.tasks.config import MachineConfig, ScheduleConfig
from iga_nerfstudio.tasks.config_files import read_preset
from iga_nerfstudio.tasks.sdf import SDFConfig, load_shape_task
from iga_nerfstudio.tasks.task import fit

COLUMNS = (
    *("shape", "network", "gradient", "IoU", "gain (in how many cases)", "best IoU", "Chamfer", "squared"),
    *("paper: IoU", "paper: Chamfer"),
)


@dataclass(frozen=True)
class Shapes(Study):
    """Meshes fitted with and without the adjustment: IoU, Chamfer distance, meshes (Tables 2, 12 and 13)."""

    name: ClassVar[str] = "shapes"

    data: Path  # Folder of the meshes, <name>.ply.
    shapes: tuple[str, ...] = ("bunny", "lucy")  # Names of the meshes.
    networks: tuple[Network, ...] = ("relu", "pe", "siren")  # Networks to train.
    # Adam at the paper's learning rates and schedule, Muon at those of iga-sdf.
    optimizers: tuple[OptimizerKind, ...] = ("adam", "muon")
    # Voxels of a step and their groups: as iga-sdf has them unless told otherwise, or rows, as in the paper.
    grouping: Literal["nearby", "rows"] = "nearby"
    resolution: int = 128  # Voxels along each side of the bounding cube.
    hidden_dim: int = 64  # Width of the networks of three hidden layers.
    # Voxels per group; half of the resolution, as in the paper, is a row that spans half of the box.
    group_size: int = 64
    groups_per_batch: int = 256  # Groups per step.
    max_num_iterations: int = 400  # Training steps, if no epochs are given.
    # Passes over the grid cut down to the shape's box. An epoch has as many steps as batches fit into the grid: 1024 at
    # 512^3 and 512 groups, less what the box cuts off.
    num_epochs: int | None = None
    seeds: tuple[int, ...] = (42, 43, 44)  # One training of each per seed.
    device: Literal["cpu", "cuda"] = "cpu"  # Where to train.

    def measure(self, train: Train) -> Figures:
        if not self.shapes or not self.seeds:
            raise ValueError("Name at least one shape and one seed.")
        labels = product(self.shapes, self.optimizers, self.networks, ("plain", "iga"), self.seeds)
        return {"trainings": train([self.training(*own) for own in labels])}

    def training(self, shape: str, optimizer: OptimizerKind, network: Network, variant: str, seed: int) -> Training:
        """One training."""
        path = self.data / f"{shape}.ply"
        if not path.is_file():
            raise ValueError(f"There is no mesh {path}.")
        config = self.config(network, optimizer, variant == "iga")
        config = replace(config, data=path, machine=replace(config.machine, seed=seed))
        labels = {"shape": shape, "network": network, "optimizer": optimizer, "variant": variant, "seed": seed}
        return Training(labels, train_shape, config, figure="iou")

    def config(self, network: Network, optimizer: OptimizerKind, adjusted: bool) -> SDFConfig:
        """The settings of a training but for mesh and seed."""
        config = read_preset(f"shape_{network}", SDFConfig)
        if optimizer == "muon":
            config = replace(config, optimizer=optimizer_settings("muon", network), schedule=ScheduleConfig())
        else:
            rate = config.optimizer.lr if adjusted else paper.SHAPE_RATES[network]
            config = replace(config, optimizer=optimizer_settings("adam", network, rate))
        begins = None if adjusted and (optimizer, network) == ("muon", "relu") else 0.0  # in others it decides nothing
        config = replace(
            config,
            adjust_from=begins,
            grouping=self.grouping,
            resolution=self.resolution,
            group_size=self.group_size,
            groups_per_batch=self.groups_per_batch,
            steps_per_log=10,
            num_epochs=self.num_epochs,
            network=replace(config.network, hidden_dim=self.hidden_dim),
            adjustment=replace(config.adjustment, enabled=adjusted),
            machine=MachineConfig(device_type=self.device),
        )
        if self.num_epochs is not None:
            return config
        steps = self.max_num_iterations
        return replace(config, max_num_iterations=steps, steps_per_eval=max(steps // 4, 1))

    @classmethod
    def section(cls, figures: Figures, stem: str) -> str:
        epochs, steps = figures["num_epochs"], figures["max_num_iterations"]
        length = f"{steps} steps" if epochs is None else f"{epochs} epochs"
        grouping = "in rows" if _in_rows(figures) else "near each other"
        head = f"""## {", ".join(figures["shapes"])} at {figures["resolution"]}^3, {length}, groups {grouping}

3 hidden layers x {figures["hidden_dim"]}, steps of {figures["groups_per_batch"]} groups of {figures["group_size"]} \
voxels {grouping}, seeds {", ".join(map(str, figures["seeds"]))}. {sizes(figures, FULL)}
"""

        def rows(runs: list[Outcome]) -> list[list[str]]:
            found = [
                _row(shape, own, runs) for (shape, *_), own in grouped(runs, "shape", "network", "variant").items()
            ]
            if len(figures["shapes"]) > 1:
                found += [_row("mean", own, runs) for own in grouped(runs, "network", "variant").values()]
            return found

        return "\n".join([head, *by_optimizer(figures["trainings"], COLUMNS, rows, "iou", "shape")])

    @classmethod
    def gains(cls, figures: Figures) -> list[list[str]]:
        if _in_rows(figures):  # what users train is the other
            return []
        return gains_rows("shapes", "network", figures["trainings"], "iou", "shape")


def _in_rows(figures: Figures) -> bool:
    """Whether groups were rows, as in the paper and in results from before there was another way."""
    return figures.get("grouping", "rows") == "rows"


def _row(name: str, own: list[Outcome], runs: list[Outcome]) -> list[str]:
    """The cells of COLUMNS: means over some trainings of one kind, and the paper's over the same shapes under Adam."""
    network, variant = own[0]["network"], own[0]["variant"]
    plain = those(runs, network=network, variant="plain")
    gains = "" if variant == "plain" else gain(differences(own, plain, "iou", "shape"), "+.4f")
    ours = [spread(own, "iou", ".4f"), gains, spread(own, "best_iou", ".4f")]
    # Chamfer distances are those of surfaces; a network may have none.
    ours += [spread(own, metric, ".2e") for metric in ("chamfer", "chamfer_squared")]
    theirs = ["", ""]
    if own[0]["optimizer"] == "adam":
        shapes = list(dict.fromkeys(run["shape"] for run in own))
        theirs = [
            number(paper.number("shape", network, variant, metric, shapes), how)
            for metric, how in (("iou", ".4f"), ("chamfer", ".2e"))
        ]
    return [name, network, NAMES[variant], *ours, *theirs]


def train_shape(config: SDFConfig) -> Outcome:
    """Train once; metrics after the last step, and the best IoU."""
    fitted = fit(load_shape_task(config))
    record = whole(fitted.record)
    return fitted.metrics | {
        "best_iou": fitted.best_metrics["iou"],
        "steps": record.steps,
        "milliseconds_per_step": 1000 * record.seconds / record.steps,
    }


# What decides whether a result's sizes are the paper's.
FULL: Figures = {"resolution": 512, "hidden_dim": 256, "group_size": 256, "groups_per_batch": 512, "num_epochs": 200}
FULL |= {"grouping": "rows"}
PRESETS = {
    # Other networks have no surface after so few steps, and a wild one takes longest to measure.
    "smoke": Shapes(tyro.MISSING, ("bunny",), ("pe",), ("muon",), "nearby", 24, 16, 256, 16, 80, seeds=(42,)),
    "cpu": Shapes(tyro.MISSING),
    "full": Shapes(
        *(tyro.MISSING, paper.SHAPES, ("relu", "pe", "siren"), ("adam",), "rows", 512, 256, 256, 512),
        num_epochs=200,
        device=default_device(),
    ),
}
