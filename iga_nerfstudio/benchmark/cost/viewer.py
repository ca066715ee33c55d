"""What the viewer and its panel cost a training step."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

from iga_nerfstudio.benchmark.cost.timing import Timed, median_ratio, medians, time_alternately
from iga_nerfstudio.benchmark.study import Figures, Train
from iga_nerfstudio.benchmark.tables import table
from iga_nerfstudio.scenes import write_demo_scene


@dataclass(frozen=True)
class ViewerCost(Timed):
    """Steps of iga-nerf-tiny without a viewer, with one that nobody looks at, and with the panel's plots updating.

    Attributes:
        steps_per_block: Steps of a block; the three take turns block by block. One has to last some seconds, since
            plots are updated every other second.
    """

    name: ClassVar[str] = "viewer"

    steps_per_block: int = 100
    rounds: int = 9

    def measure(self, train: Train) -> Figures:
        from iga_nerfstudio.benchmark.studies.nerf_training import NerfTraining
        from iga_nerfstudio.nerf.method_configs import iga_nerf_tiny

        if self.steps_per_block < 1:
            raise ValueError(f"--steps-per-block must be 1 or more, got {self.steps_per_block}.")
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            config: Any = copy.deepcopy(iga_nerf_tiny.config)
            config.pipeline.datamanager.data = write_demo_scene(folder / "scene", num_train=8, num_val=1, num_test=1)
            alone, viewed = (NerfTraining(config, self.place, self.seed) for _ in range(2))
            step, server = _with_viewer(viewed, config, folder)

            def block(take_step: Callable[[], None], clients: dict[int, None]) -> None:
                server.get_clients = lambda: clients  # they get plots, and ask for no renders
                for _ in range(self.steps_per_block):
                    take_step()

            blocks = {
                "none": partial(block, alone.step, {}),
                "open": partial(block, step, {}),
                "updating": partial(block, step, {0: None}),
            }
            seconds = time_alternately(blocks, self.rounds)
            server.stop()
        return {
            "seconds_per_step": {name: median / self.steps_per_block for name, median in medians(seconds).items()},
            "ratios": {name: median_ratio(seconds[name], seconds["none"]) for name in ("open", "updating")},
        }

    @classmethod
    def section(cls, figures: Figures, stem: str) -> str:
        milliseconds = [f"{1000 * seconds:.1f}" for seconds in figures["seconds_per_step"].values()]
        ratios = [f"**{ratio:.3f}**" for ratio in figures["ratios"].values()]
        rows = [["ms per step", *milliseconds], ["ratio", "1", *ratios]]
        return f"""## A step with the viewer open

`iga-nerf-tiny`, {figures["rounds"]} rounds of alternating blocks of {figures["steps_per_block"]} steps. Open: nobody \
is connected. Updating: the panel sends its plots as often as it does to a browser; renders are not part of it.

{table(["", "no viewer", "open", "updating"], rows)}"""


def _with_viewer(training: Any, config: Any, folder: Path) -> tuple[Callable[[], None], Any]:
    """A training's steps, which do for a viewer what nerfstudio's trainer does, and the viewer's server."""
    from nerfstudio.engine.callbacks import TrainingCallbackAttributes, TrainingCallbackLocation
    from nerfstudio.viewer.viewer import Viewer

    from iga_nerfstudio.nerf.nerfstudio_fixes.fair_lock import FairLock
    from iga_nerfstudio.nerf.trainer import find_port

    lock: Any = FairLock()
    trainer: Any = SimpleNamespace(training_state="training")
    pipeline, data = training.pipeline, training.pipeline.datamanager
    config.viewer.websocket_port = find_port(config.viewer.websocket_host, 17900)
    viewer = Viewer(config.viewer, folder / "viewer_log.txt", folder / "scene", pipeline, trainer, lock)
    viewer.init_scene(data.train_dataset, "training")
    callbacks = pipeline.get_training_callbacks(TrainingCallbackAttributes(None, None, pipeline, None))

    def step() -> None:
        with lock:
            training.step()
            for callback in callbacks:
                callback.run_callback_at_location(training.count, TrainingCallbackLocation.AFTER_TRAIN_ITERATION)
        viewer.update_scene(training.count, data.get_train_rays_per_batch())

    return step, viewer.viser_server
