"""The viewer's panel without a browser: settings, plots, points; and a trainer that viewers cannot stop."""

from __future__ import annotations

import errno
import socket
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import viser
from nerfstudio.engine.callbacks import TrainingCallbackAttributes, TrainingCallbackLocation
from nerfstudio.engine.trainer import Trainer
from nerfstudio.viewer.viewer import Viewer

from iga_nerfstudio.adjustment.history import Spectrum
from iga_nerfstudio.nerf import viewer_panel
from iga_nerfstudio.nerf.nerfstudio_fixes.departed_clients import survive_departures
from iga_nerfstudio.nerf.nerfstudio_fixes.fair_lock import FairLock
from iga_nerfstudio.nerf.nerfstudio_fixes.first_view import SCENE_SCALE
from iga_nerfstudio.nerf.panel_words import SETTINGS, _short, history_words, summary
from iga_nerfstudio.nerf.ports import find_port
from iga_nerfstudio.nerf.spectrum_plots import history_figure, spectrum_figure
from iga_nerfstudio.nerf.trainer import IGATrainer
from iga_nerfstudio.nerf.viewer_panel import AdjustmentPanel
from tests.nerf.conftest import PipelineFactory


def train(pipeline: Any, steps: int) -> None:
    """Steps as the trainer takes them, callbacks included."""
    attributes = TrainingCallbackAttributes(optimizers=None, grad_scaler=None, pipeline=pipeline, trainer=None)
    callbacks = pipeline.model.get_training_callbacks(attributes)
    for step in range(steps):
        _, losses, _ = pipeline.get_train_loss_dict(step)
        sum(losses.values()).backward()
        for callback in callbacks:
            callback.run_callback_at_location(step, location=TrainingCallbackLocation.AFTER_TRAIN_ITERATION)


@pytest.fixture
def server() -> Iterator[viser.ViserServer]:
    server = viser.ViserServer(host="127.0.0.1", port=find_port("127.0.0.1", 17007), verbose=False)
    yield server
    server.stop()


def eventually(holds: Callable[[], object], seconds: float = 20.0) -> None:
    """viser runs callbacks in threads of its own."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def panel_of(pipeline: Any, server: viser.ViserServer, training: bool = True) -> AdjustmentPanel:
    viewer = SimpleNamespace(
        viser_server=server,
        trainer=SimpleNamespace(training_state="training", last_step=0) if training else None,
        train_lock=FairLock() if training else threading.Lock(),
        pipeline=pipeline,
        stats_markdown=server.gui.add_markdown("Step: 0"),
        render_statemachines={},
        control_panel=SimpleNamespace(_max_res=SimpleNamespace(value=512), output_render="rgb", split=False),
        step=0,
        update_step=lambda step: None,
    )
    panel: AdjustmentPanel = pipeline.model.panel
    panel._setup(viewer)
    return panel


def test_changes_are_in_force_at_the_next_step(
    make_pipeline: PipelineFactory, server: viser.ViserServer, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline = make_pipeline()
    panel = panel_of(pipeline, server)
    train(pipeline, 2)
    adjuster = pipeline.model.adjuster
    panel._controls["end"].value = 3
    panel._controls["representative"].value = "random"
    panel._controls["refresh_interval"].value = 2
    eventually(lambda: (adjuster.end, adjuster.representative, adjuster.refresh_interval) == (3, "random", 2))
    eventually(lambda: "IGA: end is 3 instead of 6 after step 2." in capsys.readouterr().out)
    train(pipeline, 1)
    assert len(adjuster.diagnostics.eigenvalues) == 4
    panel._controls["enabled"].value = False
    eventually(lambda: not adjuster.enabled)
    train(pipeline, 3)
    assert adjuster.diagnostics.step == 3


def test_a_change_waits_for_the_step_in_progress(make_pipeline: PipelineFactory, server: viser.ViserServer) -> None:
    pipeline = make_pipeline()
    panel = panel_of(pipeline, server)
    lock = panel._train_lock
    assert lock is not None
    lock.acquire()
    panel._controls["end"].value = 2
    time.sleep(0.3)
    assert pipeline.model.adjuster.end == 6
    assert panel._message.content == "**Pending**: End 2; applied at the next training step."
    lock.release()
    eventually(lambda: pipeline.model.adjuster.end == 2)


def test_a_change_is_pending_until_a_step_is_taken_with_it(
    make_pipeline: PipelineFactory, server: viser.ViserServer
) -> None:
    pipeline = make_pipeline()
    panel = panel_of(pipeline, server)
    train(pipeline, 1)
    panel._update()
    before = panel._words.content
    panel._trainer.training_state = "paused"
    panel._controls["end"].value = 2
    eventually(lambda: pipeline.model.adjuster.end == 2)
    panel._controls["enabled"].value = False
    eventually(lambda: not pipeline.model.adjuster.enabled)
    panel._update()
    assert panel._message.content == "**Pending**: Adjust off, End 2; applied once training is resumed."
    # The numbers are still of the settings that the step had.
    assert panel._words.content == f"{before} **Switched off since then.**"
    panel._trainer.training_state, panel._trainer.last_step = "training", 1
    panel._update()
    assert not panel._message.visible


def test_the_end_of_the_adjustment_is_shown_and_may_be_undone(
    make_pipeline: PipelineFactory, server: viser.ViserServer
) -> None:
    pipeline = make_pipeline(until=0.5)
    panel = panel_of(pipeline, server)
    train(pipeline, 1)
    with panel._train_lock:
        pipeline.model.begin_step(5, 10)
    panel._update()
    assert not panel._controls["enabled"].value
    assert not panel._message.visible
    assert panel._words.content.endswith("**Switched off since then.**")
    panel._controls["enabled"].value = True
    eventually(lambda: pipeline.model.adjuster.enabled)
    pipeline.model.begin_step(6, 10)
    assert pipeline.model.adjuster.enabled


def test_nothing_can_be_changed_after_the_last_step(make_pipeline: PipelineFactory, server: viser.ViserServer) -> None:
    panel = panel_of(make_pipeline(), server)
    panel._trainer.training_state = "completed"
    panel._update()
    assert all(control.disabled for control in panel._controls.values())
    assert "training is over" in panel._message.content


def test_every_control_has_a_hint(make_pipeline: PipelineFactory, server: viser.ViserServer) -> None:
    panel = panel_of(make_pipeline(), server)
    assert set(panel._controls) == set(SETTINGS)
    for control in (*panel._controls.values(), panel._plot_of, panel._show_points, panel._to_view):
        assert control._impl.hint


def test_the_error_layer_leads_to_a_training_view(
    make_pipeline: PipelineFactory, server: viser.ViserServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    panel = panel_of(make_pipeline(), server)
    poses = panel._cameras.camera_to_worlds
    client = SimpleNamespace(camera=SimpleNamespace(), pose=poses[3] + 0.01)
    monkeypatch.setattr(server, "get_clients", lambda: {0: client})
    panel.viewer.get_camera_state = lambda client: SimpleNamespace(c2w=client.pose.double())
    panel._update()
    assert not panel._no_view.visible
    panel.viewer.control_panel.output_render = "error"
    panel._update()
    assert panel._no_view.visible
    assert panel._to_view.visible
    panel.viewer.camera_handles = {3: SimpleNamespace(visible=True), 4: SimpleNamespace(visible=True)}
    panel._go_to_nearest_view(SimpleNamespace(client=client))
    # Its own picture is not in front of it.
    assert [handle.visible for handle in panel.viewer.camera_handles.values()] == [False, True]
    assert np.allclose(client.camera.position, SCENE_SCALE * poses[3, :, 3].numpy())
    client.pose = poses[3]
    panel._update()
    assert not panel._to_view.visible


@pytest.mark.parametrize(
    ("name", "value", "message"), [("start", 9, "end must not be smaller"), ("end", 48, "has only 48")]
)
def test_what_cannot_be_is_answered_and_put_back(
    name: str, value: int, message: str, make_pipeline: PipelineFactory, server: viser.ViserServer
) -> None:
    pipeline = make_pipeline(rays=48)
    panel = panel_of(pipeline, server)
    before = getattr(pipeline.model.adjuster, name)
    panel._controls[name].value = value
    eventually(lambda: message in panel._message.content)
    assert panel._message.visible
    assert getattr(pipeline.model.adjuster, name) == panel._controls[name].value == before
    train(pipeline, 1)  # goes on
    panel._controls["end"].value = 4
    eventually(lambda: panel._message.content.startswith("**Pending**: End 4;"))


def test_several_processes_are_not_changed_one_by_one(
    make_pipeline: PipelineFactory, server: viser.ViserServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = make_pipeline()
    panel = panel_of(pipeline, server)
    monkeypatch.setattr(viewer_panel, "num_processes", lambda: 2)
    panel._controls["enabled"].value = False
    eventually(lambda: "Several processes" in panel._message.content)
    assert pipeline.model.adjuster.enabled


def test_plots_and_points_follow_the_training(
    make_pipeline: PipelineFactory, server: viser.ViserServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = make_pipeline(floor=0.0)
    panel = panel_of(pipeline, server)
    assert panel._words.content == "No step has been adjusted yet."
    train(pipeline, 3)
    panel._update()
    values = pipeline.model.adjuster.diagnostics.eigenvalues
    before, after, target = panel._plot.figure.data
    assert np.allclose(before.y, values)
    assert np.allclose(after.y, values[6])
    assert np.allclose(target.y, values[6])
    assert f"**6 eigenvalues** between {_short(values[0])} and {_short(values[5])}" in panel._words.content
    panel._plot_of.value = "history"
    panel._update()
    assert list(panel._plot.figure.data[0].x) == [1, 2, 3]
    assert panel._words.content.startswith("Step 1 → 3:")
    assert pipeline.model.latest_points.shape == (48, 3)
    clouds: list[np.ndarray] = []
    monkeypatch.setattr(server.scene, "add_point_cloud", lambda _name, points, **_look: clouds.append(points))
    panel._show_points.value = True
    eventually(lambda: clouds)
    assert np.allclose(clouds[-1], SCENE_SCALE * pipeline.model.latest_points.numpy())
    panel._show_points.value = False
    eventually(lambda: len(clouds) == 2)
    assert clouds[-1].shape == (0, 3)


def test_a_finished_runs_history_is_shown_without_controls(
    make_pipeline: PipelineFactory, server: viser.ViserServer
) -> None:
    trained, loaded = make_pipeline(), make_pipeline(seed=1)
    train(trained, 4)
    loaded.load_state_dict(trained.state_dict())
    panel = panel_of(loaded, server, training=False)
    assert panel._controls == {}
    assert f"between {_short(trained.model.history.spectra[-1].eigenvalues[0])} and" in panel._words.content
    panel._plot_of.value = "history"
    panel._update()
    assert list(panel._plot.figure.data[0].x) == [1, 2, 3, 4]


def test_checkpoints_without_a_history_are_read(make_pipeline: PipelineFactory) -> None:
    trained, loaded = make_pipeline(), make_pipeline()
    train(trained, 2)
    state = trained.state_dict()
    del state["_model._extra_state"]["history"]
    loaded.load_state_dict(state)
    assert loaded.model.adjuster.diagnostics.step == 2
    assert loaded.model.history.spectra == []


def test_figures_without_anything_to_show_are_empty() -> None:
    assert spectrum_figure(None).data == ()
    assert [len(line.y) for line in history_figure([]).data] == [0, 0, 0]
    failed = Spectrum(1, 1, 2, torch.tensor([3.0, 2.0, 0.0]), float("nan"), 1.5, 1)
    assert [line.name for line in spectrum_figure(failed).data] == ["before", "after"]


def spectrum(values: list[float], start: int = 1, target: float = 16.0, **balance: float) -> Spectrum:
    return Spectrum(7, start, len(values) - 1, torch.tensor(values), target, 3.44, 0, **balance)


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        (
            spectrum([4096.0, 256.0, 32.0, 16.0]),
            "**3 eigenvalues** between 4.1e3 and 32 are brought to 16: patterns learned 128 times as fast as others "
            "now go at one speed.",
        ),
        (
            spectrum([4096.0, 256.0, 16.0, 16.0], start=2, power=0.5),
            "**2 eigenvalues** between 256 and 16 are brought 50% of the way, on a logarithmic scale, to 16: patterns "
            "learned 16 times as fast as others now are 4 times as fast.",
        ),
        (
            spectrum([4096.0, 256.0, 32.0, 16.0], floor=0.03),
            "**3 eigenvalues** between 4.1e3 and 32 are brought to 16, none slowed to less than 3% of its speed: "
            "patterns learned 128 times as fast as others now are 7.68 times as fast.",
        ),
        (spectrum([2.0, 1.0, 0.0], target=float("nan")), "The latest step was left unadjusted."),
        (None, "No step has been adjusted yet."),
    ],
)
def test_numbers_are_put_into_words(shown: Spectrum | None, words: str, make_pipeline: PipelineFactory) -> None:
    assert summary(make_pipeline().model.adjuster, shown) == words


def test_the_history_is_put_into_words() -> None:
    assert history_words([]) == ""
    words = history_words([spectrum([0.02, 0.01, 0.0001], target=1e-4), spectrum([4e12, 1.0])])
    assert words.startswith("Step 7 → 7: largest eigenvalue 0.02 → 4e12, target 0.0001 → 16, effective rank")


def test_messages_are_small() -> None:
    assert len(spectrum_figure(spectrum([2.0] * 26)).to_json()) < 3000


class TestPorts:
    def test_a_port_in_use_is_named_and_the_next_one_taken(self, caplog: pytest.LogCaptureFixture) -> None:
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            port = other.getsockname()[1]
            found = find_port("127.0.0.1", port)
        assert found is not None
        assert found > port
        assert caplog.messages == [f"Port {port} is in use; the viewer takes {found}."]

    def test_a_free_port_is_taken(self, caplog: pytest.LogCaptureFixture) -> None:
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            port = other.getsockname()[1]
        assert find_port("127.0.0.1", port) == port
        assert caplog.messages == []

    def test_an_address_that_is_not_ours_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"cannot listen on 192\.0\.2\.1:7007.*websocket-host"):
            find_port("192.0.2.1", 7007)

    def test_no_port_left_is_said(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def in_use(*_: object) -> None:
            raise OSError(errno.EADDRINUSE, "in use")

        monkeypatch.setattr(socket.socket, "bind", in_use)
        with pytest.raises(ValueError, match="no free port from 65000 on"):
            find_port("127.0.0.1", 65000)


@pytest.mark.parametrize("error", [KeyError(3), ConnectionResetError("gone")])
def test_a_client_that_leaves_does_not_stop_the_training(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def leave(_trainer: Any, _step: int) -> None:
        raise error

    monkeypatch.setattr(Trainer, "_update_viewer_state", leave)
    IGATrainer.__new__(IGATrainer)._update_viewer_state(5)
    assert "A viewer left while it was being updated at step 5; training goes on." in caplog.text


def test_a_message_of_a_client_that_has_left_does_not_lock_the_viewer(server: viser.ViserServer) -> None:
    """nerfstudio's own handlers: without the repair, whatever draws waits for ever after this."""
    handlers: list[Callable[[Any], None]] = []
    camera = SimpleNamespace(
        wxyz=np.array([1.0, 0, 0, 0]), position=np.zeros(3), fov=1.0, aspect=1.0, on_update=handlers.append
    )
    client = SimpleNamespace(client_id=7, camera=camera)
    viewer = Viewer.__new__(Viewer)
    viewer.viser_server, viewer.render_statemachines, viewer.current_camera_idx = server, {}, 0
    viewer.ready = False  # render threads wait
    survive_departures(viewer)
    viewer.handle_new_client(client)
    thread = viewer.render_statemachines[7]
    viewer.handle_disconnect(client)
    assert not thread.running
    viewer.ready, viewer.render_tab_state = True, SimpleNamespace(preview_render=False)
    handlers[0](camera)

    drawn = threading.Event()

    def draw() -> None:
        with server.atomic():
            drawn.set()

    threading.Thread(target=draw, daemon=True).start()
    assert drawn.wait(20)
