"""What the viewer and its panel cost a training step."""

from __future__ import annotations

import copy
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from nerfstudio.engine.callbacks import TrainingCallbackAttributes, TrainingCallbackLocation
from nerfstudio.viewer.viewer import Viewer

from iga_nerfstudio.benchmark.cost.timing import median_ratio, time_alternately
from iga_nerfstudio.benchmark.studies.nerf_training import NerfTraining
from iga_nerfstudio.nerf.method_configs import iga_nerf_tiny
from iga_nerfstudio.nerf.nerfstudio_fixes.fair_lock import FairLock
from iga_nerfstudio.nerf.trainer import find_port
from iga_nerfstudio.scenes import write_demo_scene


class ViewedTraining(NerfTraining):
    """A training with a viewer, whose steps do for it what nerfstudio's trainer does.

    Args:
        folder: Where the viewer may write.
        seed: Seed of network and rays.
        config: As ``ns-train`` would have it.
        device: Where to train.
    """

    def __init__(self, config: Any, device: str, seed: int, folder: Path) -> None:
        super().__init__(config, device, seed)
        self.lock = FairLock()
        config.viewer.websocket_port = find_port(config.viewer.websocket_host, 17900)
        self.viewer = Viewer(
            config.viewer,
            log_filename=folder / "viewer_log.txt",
            datapath=config.pipeline.datamanager.data,
            pipeline=self.pipeline,
            trainer=SimpleNamespace(training_state="training"),  # type: ignore[arg-type]
            train_lock=self.lock,  # type: ignore[arg-type]
        )
        self.viewer.init_scene(self.pipeline.datamanager.train_dataset, "training")
        attributes = TrainingCallbackAttributes(optimizers=None, grad_scaler=None, pipeline=self.pipeline, trainer=None)
        self.callbacks = self.pipeline.get_training_callbacks(attributes)

    def step(self) -> None:
        """Take a training step."""
        with self.lock:
            super().step()
            for callback in self.callbacks:
                callback.run_callback_at_location(self.count, TrainingCallbackLocation.AFTER_TRAIN_ITERATION)
        rays = self.pipeline.datamanager.get_train_rays_per_batch()
        self.viewer.update_scene(self.count, rays)

    def pretend_to_be_watched(self, watched: bool) -> None:
        """Let the panel update its plots as for a browser; renders, which cost what they cost, are not asked for."""
        clients: dict[int, Any] = {0: None} if watched else {}
        self.viewer.viser_server.get_clients = lambda: clients  # type: ignore[method-assign]


def measure_viewer(steps: int, rounds: int, device: str, seed: int) -> dict[str, Any]:
    """Time blocks of ``iga-nerf-tiny``'s steps, alternately without a viewer, with one, and with its plots updating.

    Args:
        steps: Steps of a block; a block has to last some seconds, since plots are updated once a second.
        rounds: Timed rounds of the three.
        device: ``"cpu"`` or ``"cuda"``.
        seed: Seed of networks and rays.

    Returns:
        Median seconds of a step each, and the ratios over no viewer.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config: Any = copy.deepcopy(iga_nerf_tiny.config)
        config.pipeline.datamanager.data = write_demo_scene(folder / "scene", num_train=8, num_val=1, num_test=1)
        alone = NerfTraining(config, device, seed)
        viewed = ViewedTraining(config, device, seed, folder)

        def block(training: NerfTraining, watched: bool) -> Callable[[], None]:
            def run() -> None:
                viewed.pretend_to_be_watched(watched)
                for _ in range(steps):
                    training.step()

            return run

        blocks = {
            "none": block(alone, False),
            "open": block(viewed, False),
            "updating": block(viewed, True),
        }
        seconds = time_alternately(blocks, rounds)
        viewed.viewer.viser_server.stop()
    return {
        "steps_per_block": steps,
        "rounds": rounds,
        "device": device,
        "seed": seed,
        "seconds_per_step": {name: statistics.median(values) / steps for name, values in seconds.items()},
        "ratios": {name: median_ratio(seconds[name], seconds["none"]) for name in ("open", "updating")},
    }
