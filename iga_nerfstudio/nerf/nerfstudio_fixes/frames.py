"""Frames for the viewer, rendered between the training's steps instead of in their place.

nerfstudio 1.1.5 holds the training's lock for as long as a frame takes: on two CPU cores a still viewer stops the
training for a minute at a time, and whatever else waits for the lock with it. Here a frame is made of slices of rays,
with the weights that the network had when the frame was begun. They are computed by the training's own thread between
two steps, and what else there is to do for a frame is done by one thread: a second one that computed on several cores
would have OpenMP threads of its own, more in all than there are cores, and from then on all of them sleep between any
two loops, which alone halves the training's steps. nerfstudio's issue 3684 is of viewers that slow training down; this
cause is not reported.
"""

from __future__ import annotations

import copy
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import chain
from typing import Any, TypeVar

import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.data.scene_box import OrientedBox
from nerfstudio.models.base_model import Model
from torch import Tensor
from torch.func import functional_call

from iga_nerfstudio.nerf.nerfstudio_fixes.fair_lock import FairLock

_T = TypeVar("_T")

# What renders may take in the long run for every second that training has had, and seconds that they may be ahead of
# that: who has just come or moved sees something soon.
_SHARE, _CREDIT = 0.4, 2.5
# Seconds of a slice, if steps are not longer, and after which who waits for one looks whether somebody still trains.
_SHORTEST, _LOOK_AGAIN = 0.02, 0.2
# Rays of a slice.
_FEWEST, _MOST, _FIRST = 64, 1 << 14, 256
# Seconds that a still frame may take to compute; its size follows.
_SECONDS_PER_FRAME = 1.6
# Pixels along the longer side.
_SIZES = (512, 384, 256, 192, 128)


class Slices:
    """Work on frames, done between the training's steps, for as much time as it has earned.

    Args:
        lock: What training holds during a step, if there is a training.
        training: Whether somebody trains at the moment and calls :meth:`serve` after every step.
    """

    def __init__(self, lock: FairLock | None, training: Callable[[], bool]) -> None:
        self._lock, self._training = lock, training
        self._cores = torch.get_num_threads()
        self._turn = threading.Lock()  # of several clients' renders one at a time, where nobody trains
        self._tasks: deque[tuple[Future[Any], Callable[[], Any], int]] = deque()
        self._rays = _FIRST
        self._stopped, self._balance = time.perf_counter(), _CREDIT

    @property
    def rays(self) -> int:
        """How many to render at the next turn."""
        return self._rays if self._training() else _MOST

    def begin(self) -> None:
        """Let this thread compute on one core while there is a training, and else on all that a training would have."""
        torch.set_num_threads(1 if self._training() else self._cores)

    def run(self, work: Callable[[], _T], rays: int = 0) -> _T:
        """Have something done, by the training's thread while there is a training, and else by this one.

        Args:
            work: What to do.
            rays: How many are rendered by it.

        Returns:
            What it gave.
        """
        with _without_trace():
            if self._training():
                task: Future[_T] = Future()
                self._tasks.append((task, work, rays))
                while not task.done():
                    wait([task], timeout=_LOOK_AGAIN)
                    if not self._training():
                        task.cancel()  # unless it has been begun
                if not task.cancelled():
                    return task.result()
            with self._turn, self._lock or nullcontext():
                return work()

    def serve(self) -> None:
        """Do one piece of what waits, if there is time for it; called by the training's thread after every step."""
        start = time.perf_counter()
        trained, self._stopped = start - self._stopped, start
        self._balance = min(self._balance + _SHARE * trained, _CREDIT)
        if not self._tasks or self._balance <= 0:
            return
        task, work, rays = self._tasks.popleft()
        if not task.set_running_or_notify_cancel():
            return
        try:
            result = work()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
        except Exception as error:  # whatever it is, it is the render's
            task.set_exception(error)
        else:
            task.set_result(result)
        self._stopped = time.perf_counter()
        took = self._stopped - start
        self._balance -= took
        if rays:
            # A slice is about as long as a step: longer ones keep training waiting.
            growth = min(max(max(trained, _SHORTEST) / took, 0.5), 2.0)
            self._rays = min(max(int(rays * growth), _FEWEST), _MOST)


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
        self._slices.begin()
        weights = self._slices.run(self._weights)
        # All that the model does with its outputs, but its outputs in slices.
        view = copy.copy(self._model)
        view.training = False
        vars(view)["forward"] = partial(self._forward, weights)
        return view.get_outputs_for_camera(camera, obb_box)

    def _weights(self) -> dict[str, Tensor]:
        """A copy of the model's state."""
        state = chain(self._model.named_parameters(), self._model.named_buffers())
        return {name: value.detach().clone() for name, value in state}

    def _forward(self, weights: dict[str, Tensor], ray_bundle: RayBundle) -> dict[str, Tensor]:
        parts: list[dict[str, Any]] = []
        done = 0
        while done < len(ray_bundle):
            rays = self._slices.rays
            part = ray_bundle[done : done + rays]
            parts.append(self._slices.run(partial(evaluate, self._model, weights, part), rays))
            done += rays
        return {
            name: torch.cat([part[name] for part in parts])
            for name, value in parts[0].items()
            if isinstance(value, Tensor)
        }


@torch.no_grad()
def evaluate(model: Model, weights: dict[str, Tensor], bundle: RayBundle) -> dict[str, Any]:
    """A model's outputs in evaluation mode, of other weights than it has."""
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
    serves = hasattr(trainer, "between_steps")  # other trainers than ours do not
    slices = Slices(lock, lambda: serves and trainer.training_state == "training")
    if serves:
        trainer.between_steps = slices.serve
    frames = FrameModel(viewer.pipeline.model, slices)
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
