"""The panel "IGA" in nerfstudio's viewer: the kernel's spectrum, live, and the adjustment's settings to change."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
import viser
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.utils.rich_utils import CONSOLE
from nerfstudio.viewer.viewer_elements import ViewerControl
from torch import Tensor

from iga_nerfstudio.adjustment import InductiveGradientAdjuster, require_enough_groups
from iga_nerfstudio.adjustment.history import Spectrum, SpectrumHistory, latest_spectrum
from iga_nerfstudio.adjustment.processes import num_processes
from iga_nerfstudio.adjustment.representatives import Representative
from iga_nerfstudio.nerf.nerfstudio_fixes.departed_clients import survive_departures
from iga_nerfstudio.nerf.nerfstudio_fixes.fair_lock import FairLock
from iga_nerfstudio.nerf.nerfstudio_fixes.first_view import SCENE_SCALE, begin_at_a_training_view, look_from
from iga_nerfstudio.nerf.nerfstudio_fixes.frames import render_between_steps
from iga_nerfstudio.nerf.panel_words import ABOUT, NO_VIEW, PLOT_HINT, PLOTS, SETTINGS, history_words, summary
from iga_nerfstudio.nerf.view_error import nearest_view

logger = logging.getLogger("iga_nerfstudio")

# Seconds between two updates of the plots while somebody looks.
UPDATE_SECONDS = 2.0


class AdjustmentPanel(ViewerControl):
    """A folder of the viewer's, made when nerfstudio hands its viewer over.

    Changes take effect at the next training step, and are shown as pending until then: they are next to have the lock
    that a step holds. A combination that the adjuster refuses is answered by a message, and the widgets go back to what
    is in force. While nobody is connected, nothing is computed or sent.

    Args:
        adjuster: Whose settings are shown and changed.
        history: What is plotted.
        points: Gives the latest step's representatives, ``(m, 3)``, or None before there are any.
        representatives: Strategies to choose from.
    """

    def __init__(
        self,
        adjuster: InductiveGradientAdjuster,
        history: SpectrumHistory,
        points: Callable[[], Tensor | None],
        representatives: tuple[Representative, ...],
    ) -> None:
        self._adjuster = adjuster
        self._history = history
        self._points = points
        self._representatives = representatives
        self._changes: queue.Queue[str] = queue.Queue()
        # After which step each setting was changed, and why one was not.
        self._changed_at: dict[str, int] = {}
        self._refusal = ""
        self._controls: dict[str, Any] = {}

    def show_enabled(self) -> None:
        """Show whether the adjuster adjusts, after that was changed elsewhere."""
        if "enabled" in self._controls:
            self._controls["enabled"].value = self._adjuster.enabled

    def _setup(self, viewer: Any) -> None:
        """Called by nerfstudio with its viewer, once."""
        # Takes a while, and only a viewer needs it.
        from iga_nerfstudio.nerf.spectrum_plots import history_figure, spectrum_figure

        super()._setup(viewer)
        self._train_lock, self._trainer = viewer.train_lock, viewer.trainer
        self._cameras: Cameras = viewer.pipeline.datamanager.train_dataset.cameras
        survive_departures(viewer)
        render_between_steps(viewer)
        begin_at_a_training_view(viewer)
        self._figures = (spectrum_figure, history_figure)
        gui = self.viser_server.gui
        self._latest: Spectrum | None = None
        self._shown = (0, "spectrum")  # adjusted step and plot
        # Above the tabs, where people look first.
        with gui.add_folder("IGA", order=viewer.stats_markdown.order + 0.5):
            gui.add_markdown(ABOUT)
            self._controls = {} if viewer.trainer is None else self._add_controls("enabled", "end")
            self._message = gui.add_markdown("", visible=False)
            self._no_view = gui.add_markdown(NO_VIEW, visible=False)
            self._to_view = gui.add_button(
                "Go to the nearest view", visible=False, hint="Moves the camera to the training view nearest to it."
            )
            self._plot_of = gui.add_dropdown("Plot", tuple(PLOTS), hint=PLOT_HINT)
            self._words = gui.add_markdown("")
            # One for both: viser draws what a closed folder holds too wide for the panel when it is opened.
            self._plot = gui.add_plotly(spectrum_figure(None), aspect=0.6)
            with gui.add_folder("More", expand_by_default=False):
                if self._controls:
                    self._controls = self._controls | self._add_controls("start", "representative", "refresh_interval")
                self._show_points = gui.add_checkbox(
                    "Show points",
                    initial_value=False,
                    hint="Draws the representatives: the points of the latest training step that stand for their rays "
                    "in the kernel.",
                )
        self._plot_of.on_update(lambda _: self._changes.put("plot"))
        self._to_view.on_click(self._go_to_nearest_view)
        self._show_points.on_update(lambda _: self._draw_points())
        self._update()
        threading.Thread(target=self._keep_updating, name="iga-panel", daemon=True).start()

    def _add_controls(self, *names: str) -> dict[str, Any]:
        """Widgets of the settings, by the names of :meth:`InductiveGradientAdjuster.reconfigure`."""
        gui, controls = self.viser_server.gui, {}
        kinds: dict[str, Callable[..., Any]] = {
            "enabled": gui.add_checkbox,
            "start": partial(gui.add_number, min=1, step=1),
            "end": partial(gui.add_number, min=0, step=1),
            "representative": partial(gui.add_dropdown, options=self._representatives),
            "refresh_interval": partial(gui.add_number, min=1, step=1),
        }
        for name in names:
            label, hint = SETTINGS[name]
            control = kinds[name](label, initial_value=getattr(self._adjuster, name), hint=hint)
            # viser tells other clients of the new value after this, so that it must not be put back in here.
            control.on_update(lambda _, name=name: self._ask_for(name))
            controls[name] = control
        return controls

    def _ask_for(self, name: str) -> None:
        self._changes.put(name)
        self._show_message()

    def _change(self, name: str) -> None:
        """Put a widget's value in force, or put it back and say why not."""
        value, current = self._controls[name].value, getattr(self._adjuster, name)
        if value == current:  # also after it was put back
            return
        try:
            with self._between_steps():
                self._reconfigure({name: value})
                step = self._adjuster.diagnostics.step
                self._changed_at[name] = self._last_step
        except ValueError as error:
            time.sleep(0.1)  # until viser has told the others
            self._controls[name].value = current
            self._refusal = f"**Not changed.** {error}"
        else:
            CONSOLE.log(f"IGA: {name} is {value} instead of {current} after step {step}.")
            self._refusal = ""
        self._show_message()

    def _reconfigure(self, changes: dict[str, Any]) -> None:
        if num_processes() > 1:
            raise ValueError("Several processes train together, and this viewer reaches one of them only.")
        end = changes.get("end", self._adjuster.end)
        rays = self.viewer.pipeline.datamanager.get_train_rays_per_batch()
        require_enough_groups(rays, end, self._adjuster.rule)
        self._adjuster.reconfigure(**changes)

    @property
    def _last_step(self) -> int:
        # Other trainers than ours tell it a little too early.
        return int(getattr(self._trainer, "last_step" if hasattr(self._trainer, "last_step") else "step"))

    def _pending(self) -> list[str]:
        """What was changed and no step has been taken with."""
        return [
            f"{SETTINGS[name][0]} {_shown(control.value)}"
            for name, control in self._controls.items()
            if control.value != getattr(self._adjuster, name) or self._changed_at.get(name) == self._last_step
        ]

    def _show_message(self) -> None:
        """Say what is pending and what was refused, or that no step will come any more."""
        state = self._trainer.training_state if self._controls else ""
        for control in self._controls.values():
            control.disabled = state == "completed"
        pending, texts = self._pending(), [self._refusal]
        if state == "completed":
            texts = ["The training is over; there is nothing left to change."]
        elif pending:
            when = "once training is resumed" if state == "paused" else "at the next training step"
            texts.append(f"**Pending**: {', '.join(pending)}; applied {when}.")
        _write(self._message, "\n\n".join(filter(None, texts)))

    def _keep_updating(self) -> None:
        """Make changes and update while somebody looks; a thread of its own, so that training does not wait for it."""
        while True:
            try:
                name = self._next_change()
                if name in self._controls:
                    self._change(name)
                if self.viser_server.get_clients():
                    self._update()
            except Exception as error:  # whatever it is, it must neither end the panel nor the training
                if isinstance(error, RuntimeError) and "after shutdown" in str(error):
                    return  # the viewer has been stopped
                logger.exception("IGA: the viewer's panel could not be updated; training goes on.")

    def _next_change(self) -> str | None:
        """A widget that was changed, the plot's choice among them; None after a while without."""
        try:
            return self._changes.get(timeout=UPDATE_SECONDS)
        except queue.Empty:
            return None

    def _update(self) -> None:
        """Show the step, the latest spectrum and the history, if there is something new."""
        # nerfstudio does so only when it renders.
        self.viewer.update_step(self.viewer.step)
        self._show_message()
        self._no_view.visible = self._to_view.visible = self._looks_at_no_view()
        if not self._pending():  # else what the adjuster saw is of other settings than it has
            self._latest = self._latest_spectrum()
        latest, plot = self._latest, self._plot_of.value
        step = 0 if latest is None else latest.step
        if plot == "spectrum":
            _write(self._words, summary(self._adjuster, latest))
        if (step, plot) == self._shown:
            return
        self._shown = step, plot
        self._draw_points()
        spectrum_figure, history_figure = self._figures
        if plot == "spectrum":
            self._plot.figure = spectrum_figure(latest)
        else:
            _write(self._words, history_words(self._history.spectra))
            self._plot.figure = history_figure(self._history.spectra)

    def _latest_spectrum(self) -> Spectrum | None:
        """The latest step's, or of a run that is over the last that was recorded."""
        if len(self._adjuster.diagnostics.eigenvalues):
            with self._between_steps():
                return latest_spectrum(self._adjuster)
        return self._history.spectra[-1] if self._history.spectra else None

    def _between_steps(self) -> AbstractContextManager[Any]:
        """While this is held, no training step is under way."""
        if isinstance(self._train_lock, FairLock):
            return self._train_lock.ahead()
        return self._train_lock or nullcontext()

    def _looks_at_no_view(self) -> bool:
        """Whether somebody has chosen the error, and stands where there is none."""
        panel = self.viewer.control_panel
        chosen = {panel.output_render, panel.split_output_render if panel.split else None}
        clients = self.viser_server.get_clients() if "error" in chosen else {}
        return not all(self._nearest_view(client)[1] for client in clients.values())

    def _nearest_view(self, client: viser.ClientHandle) -> tuple[int, bool]:
        return nearest_view(self._cameras, self.viewer.get_camera_state(client).c2w)

    def _go_to_nearest_view(self, event: Any) -> None:
        index, _ = self._nearest_view(event.client)
        look_from(event.client.camera, self.viewer, index)
        self._no_view.visible = self._to_view.visible = False

    def _draw_points(self) -> None:
        points = self._points() if self._show_points.value else None
        if points is None:
            # Nothing to show, or not wanted.
            points = torch.zeros(0, 3)
        self.viser_server.scene.add_point_cloud(
            "/iga_representatives",
            points=SCENE_SCALE * points.detach().cpu().float().numpy(),
            colors=(255, 80, 60),
            point_size=0.06,
            point_shape="circle",
        )


def _write(markdown: viser.GuiMarkdownHandle, text: str) -> None:
    """Change a text, if it is another one: viser would send it again."""
    if text != markdown.content:
        markdown.content = text
    markdown.visible = bool(text)


def _shown(value: Any) -> str:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)
