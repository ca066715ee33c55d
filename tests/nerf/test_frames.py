"""Frames between the training's steps: whole, of one state, interruptible, and no burden on the training."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from nerfstudio.viewer_legacy.server.viewer_utils import IOChangeException, SetTrace

from iga_nerfstudio.nerf.nerfstudio_fixes.fair_lock import FairLock
from iga_nerfstudio.nerf.nerfstudio_fixes.first_view import SCENE_SCALE, begin_at_a_training_view
from iga_nerfstudio.nerf.nerfstudio_fixes.frames import FrameModel, Slices, affordable_size
from tests.nerf.conftest import PipelineFactory


def yes() -> bool:
    return True


def no() -> bool:
    return False


@contextmanager
def served(slices: Slices, step: Callable[[], object]) -> Iterator[None]:
    """A training's thread that takes steps and serves between them."""
    done = threading.Event()

    def train() -> None:
        while not done.is_set():
            step()
            slices.serve()

    thread = threading.Thread(target=train, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(timeout=10)


@torch.no_grad()
def frame_of(model: Any, camera: Any) -> dict[str, torch.Tensor]:
    model.eval()
    outputs: dict[str, torch.Tensor] = model.get_outputs_for_camera(camera)
    model.train()
    return outputs


@pytest.mark.parametrize("training", [yes, no])
def test_a_frame_in_slices_is_the_models_own(make_pipeline: PipelineFactory, training: Any) -> None:
    pipeline = make_pipeline()
    camera = pipeline.datamanager.train_dataset.cameras[1:2]
    expected = frame_of(pipeline.model, camera)
    slices = Slices(FairLock(), training)
    slices._rays = 100
    with served(slices, lambda: time.sleep(0.001)) if training() else nullcontext():
        found = FrameModel(pipeline.model, slices).get_outputs_for_camera(camera)
    assert found.keys() == expected.keys()
    assert {"rgb", "depth", "accumulation", "rgb_coarse", "coarse_fine_difference", "error"} <= found.keys()
    for name, value in expected.items():
        assert value.shape[:2] == (24, 24)
        assert torch.allclose(found[name], value, atol=1e-5), name
    assert pipeline.model.training


def test_a_frame_is_of_the_weights_that_it_was_begun_with(make_pipeline: PipelineFactory) -> None:
    pipeline = make_pipeline()
    camera = pipeline.datamanager.train_dataset.cameras[0:1]
    expected = frame_of(pipeline.model, camera)
    slices = Slices(FairLock(), yes)
    slices._rays = 64
    pieces = [0]
    run = slices.run

    def counted(*arguments: Any) -> Any:
        result = run(*arguments)
        pieces[0] += 1
        return result

    slices.run = counted  # type: ignore[method-assign]

    def step() -> None:
        if pieces[0]:  # the frame is begun
            with torch.no_grad():
                for weight in pipeline.model.parameters():
                    weight.add_(0.1)

    with served(slices, step):
        found = FrameModel(pipeline.model, slices).get_outputs_for_camera(camera)
    assert pieces[0] > 3
    assert torch.allclose(found["rgb"], expected["rgb"], atol=1e-5)
    assert not torch.allclose(frame_of(pipeline.model, camera)["rgb"], expected["rgb"], atol=1e-2)


@pytest.mark.parametrize(("credit", "least", "most"), [(0.0, 0.1, 0.4), (9.0, 0.4, 0.7)])
def test_training_keeps_more_than_half_of_its_steps(credit: float, least: float, most: float) -> None:
    """Steps and slices that take what they would; who has just come may have as much as the training."""
    slices = Slices(FairLock(), yes)
    slices._balance = credit
    trained, rendered = [0.0], 0.0

    def step() -> None:
        time.sleep(0.01)
        trained[0] += 0.01

    with served(slices, step):
        end = time.monotonic() + 3
        while time.monotonic() < end:
            rays = slices.rays
            slices.run(lambda rays=rays: time.sleep(rays * 2e-5), rays)  # type: ignore[misc]
            rendered += rays * 2e-5
    # The render has its share too.
    assert least < rendered / (trained[0] + rendered) < most


def test_a_change_comes_next_while_a_frame_is_rendered() -> None:
    lock = FairLock()
    order: list[str] = []
    lock.acquire()

    def wait_for(name: str, ahead: bool) -> threading.Thread:
        def run() -> None:
            with lock.ahead() if ahead else lock:
                order.append(name)

        before = len(lock._waiting)
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        while len(lock._waiting) == before:
            time.sleep(0.001)
        return thread

    threads = [wait_for("step", False), wait_for("slice", False), wait_for("change", True)]
    lock.release()
    for thread in threads:
        thread.join(timeout=10)
    assert order == ["change", "step", "slice"]
    assert not lock.locked()


@pytest.mark.parametrize("training", [yes, no])
def test_an_interrupted_frame_leaves_no_lock_behind(make_pipeline: PipelineFactory, training: Any) -> None:
    """nerfstudio raises from any line of the render's when the camera moves."""
    pipeline = make_pipeline()
    camera = pipeline.datamanager.train_dataset.cameras[0:1]
    lock = FairLock()
    slices = Slices(lock, training)
    frames = FrameModel(pipeline.model, slices)
    lines = [0]
    with served(slices, lambda: time.sleep(0.001)) if training() else nullcontext():
        for stop_at in range(1, 120, 3):
            lines[0] = 0

            def check(_frame: Any, event: str, _argument: Any, stop_at: int = stop_at) -> Any:
                if event == "line":
                    lines[0] += 1
                    if lines[0] == stop_at:
                        raise IOChangeException
                return check

            with pytest.raises(IOChangeException), SetTrace(check):
                frames.get_outputs_for_camera(camera)
            sys.settrace(None)
            assert not lock.locked()
            assert not slices._turn.locked()
        assert frames.get_outputs_for_camera(camera)["rgb"].shape == (24, 24, 3)


def test_a_render_leaves_the_cores_to_the_training(make_pipeline: PipelineFactory) -> None:
    """Threads of a second OpenMP team, beyond the cores, would put those of the training to sleep between loops."""
    pipeline = make_pipeline()
    camera = pipeline.datamanager.train_dataset.cameras[0:1]
    cores = torch.get_num_threads()
    state = ["training"]
    slices = Slices(FairLock(), lambda: state[0] == "training")
    seen: list[int] = []

    def render() -> None:
        FrameModel(pipeline.model, slices).get_outputs_for_camera(camera)
        seen.append(torch.get_num_threads())

    for state[0] in ("training", "completed"):
        with served(slices, lambda: time.sleep(0.001)) if state[0] == "training" else nullcontext():
            thread = threading.Thread(target=render)
            thread.start()
            thread.join(timeout=60)
    assert seen == [1, cores]
    assert torch.get_num_threads() == cores


def test_a_frame_that_waits_when_training_ends_is_finished_all_the_same() -> None:
    state = ["training"]
    slices = Slices(FairLock(), lambda: state[0] == "training")
    timer = threading.Timer(0.5, lambda: state.__setitem__(0, "completed"))
    timer.start()
    assert slices.run(lambda: threading.current_thread(), 1) is threading.current_thread()


def test_what_fails_fails_in_the_render_and_not_in_the_training() -> None:
    slices = Slices(FairLock(), yes)

    def fail() -> None:
        raise TimeoutError("no")

    with served(slices, lambda: time.sleep(0.001)):
        with pytest.raises(TimeoutError, match="no"):
            slices.run(fail)
        assert slices.run(lambda: threading.current_thread()) is not threading.current_thread()


def test_the_size_of_a_frame_follows_the_machine(
    make_pipeline: PipelineFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = make_pipeline()
    clock = [0.0]
    for seconds, size in ((1e-4, 512), (0.025, 192), (10.0, 128)):

        def tick(seconds: float = seconds) -> float:
            clock[0] += seconds
            return clock[0]

        monkeypatch.setattr(time, "perf_counter", tick)
        assert affordable_size(pipeline) == size


def test_the_first_view_is_a_training_cameras(make_pipeline: PipelineFactory) -> None:
    pipeline = make_pipeline()
    callbacks: list[Any] = []
    server = SimpleNamespace(on_client_connect=callbacks.append)
    begin_at_a_training_view(SimpleNamespace(pipeline=pipeline, viser_server=server))
    camera = SimpleNamespace()
    callbacks[0](SimpleNamespace(camera=camera))
    view = pipeline.datamanager.train_dataset.cameras[0]
    pose = view.camera_to_worlds.numpy()
    assert np.allclose(camera.position, SCENE_SCALE * pose[:, 3])
    towards = camera.look_at - camera.position
    assert np.allclose(towards / np.linalg.norm(towards), -pose[:, 2], atol=1e-5)
    assert np.allclose(camera.up_direction, pose[:, 1])
    assert 2 * np.tan(camera.fov / 2) * view.fy.item() == pytest.approx(24)
