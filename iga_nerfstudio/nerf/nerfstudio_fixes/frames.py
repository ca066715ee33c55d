"""Frames for the viewer, rendered between the training's steps instead of in their place.

nerfstudio 1.1.5 holds the training's lock for as long as a frame takes: on two CPU cores a still viewer stops the
training for a minute at a time, and whatever else waits for the lock with it. Here a frame is made of slices of rays,
with the weights that the network had when the frame was begun; between two slices training goes on for at least as
long as a slice took. nerfstudio's issue 3684 is of viewers that slow training down; this cause is not reported.
"""

from __future__ import annotations

import copy
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.data.scene_box import OrientedBox
from nerfstudio.models.base_model import Model
from torch import Tensor
from torch.func import functional_call

from iga_nerfstudio.nerf.nerfstudio_fixes.fair_lock import FairLock

# What renders may take in the long run for every second that training has had, and seconds that they may be ahead of
# that: who has just come or moved sees something soon.
_SHARE, _CREDIT = 0.4, 2.5
# Rays of a slice.
_FEWEST, _MOST, _FIRST = 64, 1 << 14, 256
# Seconds that a still frame may take to compute; its size follows.
_SECONDS_PER_FRAME = 1.6
# Pixels along the longer side.
_SIZES = (512, 384, 256, 192, 128)


class Slices:
    """Turns at the machine for renders, as long as those that training takes in between.

    Args:
        lock: What training holds during a step, if there is a training.
        training: Whether somebody trains at the moment.
    """

    def __init__(self, lock: FairLock | None, training: Callable[[], bool]) -> None:
        self._lock, self._training = lock, training
        self._turn = threading.Lock()  # of several clients' renders one at a time
        self._rays = _FIRST
        self._released, self._balance = time.perf_counter(), _CREDIT

    @property
    def rays(self) -> int:
        """How many to render at the next turn."""
        return self._rays if self._training() else _MOST

    @contextmanager
    def turn(self, rays: int) -> Iterator[None]:
        """Wait for one's turn and have it.

        Args:
            rays: How many are rendered meanwhile.
        """
        if self._training():
            time.sleep(max(-self._balance, 0.0) / _SHARE)  # the training's
        with self._turn, _without_trace(), self._lock or nullcontext():
            start = time.perf_counter()
            yield
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            end = time.perf_counter()
        trained, took = start - self._released, end - start
        self._balance = min(self._balance + _SHARE * trained, _CREDIT) - took
        if rays and self._training():
            # A slice is about as long as a step: shorter ones would waste, longer ones keep training waiting.
            wanted = trained if self._balance > 0 else _SHARE * trained
            self._rays = min(max(int(rays * min(max(wanted / took, 0.5), 2.0)), _FEWEST), _MOST)
        self._released = end


class FrameModel:
    """Stands where nerfstudio's viewer looks for the model that it renders.

    Args:
        model: The model that is trained.
        slices: When to render.
    """

    # nerfstudio switches a model that is training to evaluation and back.
    training = False

    def __init__(self, model: Model, slices: Slices) -> None:
        self._model, self._slices = model, slices

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self._model.device

    def eval(self) -> None:
        """Nothing to switch."""

    def get_outputs_for_camera(self, camera: Cameras, obb_box: OrientedBox | None = None) -> dict[str, Any]:
        """A frame of one state of the model: its outputs, ``(H, W, C)`` each."""
        with self._slices.turn(0):
            weights = {name: value.detach().clone() for name, value in self._model.named_parameters()}
            weights |= {name: value.detach().clone() for name, value in self._model.named_buffers()}
        # All that the model does with its outputs, but its outputs in slices.
        view = copy.copy(self._model)
        view.training = False
        vars(view)["forward"] = partial(self._forward, weights)
        return view.get_outputs_for_camera(camera, obb_box)

    def _forward(self, weights: dict[str, Tensor], ray_bundle: RayBundle) -> dict[str, Tensor]:
        parts: list[dict[str, Any]] = []
        done = 0
        while done < len(ray_bundle):
            rays = self._slices.rays
            with self._slices.turn(rays):
                parts.append(evaluate(self._model, weights, ray_bundle[done : done + rays]))
            done += rays
        return {
            name: torch.cat([part[name] for part in parts])
            for name, value in parts[0].items()
            if isinstance(value, Tensor)
        }


@torch.no_grad()
def evaluate(model: Model, weights: dict[str, Tensor], bundle: RayBundle) -> dict[str, Any]:
    """A model's outputs in evaluation mode, of other weights than it has; nobody may train it meanwhile."""
    was_training = model.training
    model.eval()
    try:
        return functional_call(model, weights, kwargs={"ray_bundle": bundle}, args=())
    finally:
        model.train(was_training)


def render_between_steps(viewer: Any) -> None:
    """Let a viewer render beside the training.

    Args:
        viewer: nerfstudio's viewer, while it is set up.
    """
    lock = viewer.train_lock if isinstance(viewer.train_lock, FairLock) else None
    trainer = viewer.trainer

    def training() -> bool:
        return trainer is not None and trainer.training_state == "training"

    frames = FrameModel(viewer.pipeline.model, Slices(lock, training))
    viewer.get_model = lambda: frames
    # Of the training; renders take it slice by slice.
    viewer.train_lock = None
    viewer.control_panel._max_res.value = affordable_size(viewer.pipeline)


def affordable_size(pipeline: Any) -> int:
    """Pixels along the longer side of a still frame that this machine computes in some seconds.

    Args:
        pipeline: What is rendered.

    Returns:
        At most nerfstudio's 512; a person can ask for more in the viewer (Max Res).
    """
    model = pipeline.model
    cameras = pipeline.datamanager.train_dataset.cameras.to(model.device)
    bundle = cameras.generate_rays(camera_indices=0).flatten()
    bundle = bundle[:: max(len(bundle) // 512, 1)]
    weights = dict(model.named_parameters()) | dict(model.named_buffers())
    seconds = []
    for _ in range(2):  # the first one warms up
        start = time.perf_counter()
        evaluate(model, weights, bundle)
        if model.device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    rays = _SECONDS_PER_FRAME * len(bundle) / seconds[-1]
    return next((size for size in _SIZES if size * size * 2 / 3 <= rays), _SIZES[-1])


@contextmanager
def _without_trace() -> Iterator[None]:
    """nerfstudio interrupts a render by raising from whatever line it is at; here locks are held."""
    trace = sys.gettrace()
    sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(trace)
