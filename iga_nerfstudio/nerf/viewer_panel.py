"""The panel "IGA" in nerfstudio's viewer: the kernel's spectrum, live, and the adjustment's settings to change."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from nerfstudio.utils.rich_utils import CONSOLE
from nerfstudio.viewer.viewer_elements import ViewerControl
from torch import Tensor

from iga_nerfstudio.adjustment import InductiveGradientAdjuster, require_enough_groups
from iga_nerfstudio.adjustment.history import Spectrum, SpectrumHistory, latest_spectrum
from iga_nerfstudio.adjustment.processes import num_processes
from iga_nerfstudio.adjustment.representatives import Representative
from iga_nerfstudio.nerf.nerfstudio_fixes.departed_clients import survive_departures
from iga_nerfstudio.nerf.nerfstudio_fixes.fair_lock import FairLock
from iga_nerfstudio.nerf.nerfstudio_fixes.first_view import SCENE_SCALE, begin_at_a_training_view
from iga_nerfstudio.nerf.nerfstudio_fixes.frames import render_between_steps

logger = logging.getLogger("iga_nerfstudio")

# Seconds between two updates of the plots while somebody looks.
UPDATE_SECONDS = 2.0


class AdjustmentPanel(ViewerControl):
    """A folder of the viewer's, made when nerfstudio hands its viewer over.

    Changes take effect at the next training step: they are next to have the lock that a step holds. A combination
    that the adjuster refuses is answered by a message, and the widgets go back to what is in force. While nobody is
    connected, nothing is computed or sent.

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

    def _setup(self, viewer: Any) -> None:
        """Called by nerfstudio with its viewer, once."""
        # Takes a while, and only a viewer needs it.
        from iga_nerfstudio.nerf.spectrum_plots import history_figure, spectrum_figure

        super()._setup(viewer)
        self._train_lock = viewer.train_lock
        survive_departures(viewer)
        render_between_steps(viewer)
        begin_at_a_training_view(viewer)
        self._figures = (spectrum_figure, history_figure)
        gui = self.viser_server.gui
        self._shown_step = -1
        # Above the tabs, where people look first.
        with gui.add_folder("IGA", order=viewer.stats_markdown.order + 0.5):
            self._summary = gui.add_markdown("")
            self._controls = {} if viewer.trainer is None else self._add_controls()
            self._message = gui.add_markdown("", visible=False)
            self._spectrum_plot = gui.add_plotly(spectrum_figure(None), aspect=0.75)
            self._history_plot = gui.add_plotly(history_figure([]), aspect=0.75)
            self._show_points = gui.add_checkbox(
                "Show representatives",
                initial_value=False,
                hint="The points of the latest training step that stand for their rays in the kernel.",
            )
        self._show_points.on_update(lambda _: self._draw_points())
        self._update()
        threading.Thread(target=self._keep_updating, name="iga-panel", daemon=True).start()

    def _add_controls(self) -> dict[str, Any]:
        """Widgets of the settings, by the names of :meth:`InductiveGradientAdjuster.reconfigure`."""
        gui, adjuster = self.viser_server.gui, self._adjuster
        controls: dict[str, Any] = {
            "enabled": gui.add_checkbox("Adjust gradients", initial_value=adjuster.enabled),
            "start": gui.add_number("Start", initial_value=adjuster.start, min=1, step=1),
            "end": gui.add_number("End", initial_value=adjuster.end, min=0, step=1),
            "representative": gui.add_dropdown(
                "Representative", self._representatives, initial_value=adjuster.representative
            ),
            "refresh_interval": gui.add_number("Refresh interval", initial_value=adjuster.refresh_interval, min=1),
        }
        for name, control in controls.items():
            # viser tells other clients of the new value after this, so that it must not be put back in here.
            control.on_update(lambda _, name=name: self._changes.put(name))
        return controls

    def _change(self, name: str) -> None:
        """Put a widget's value in force, or put it back and say why not."""
        value, current = self._controls[name].value, getattr(self._adjuster, name)
        if value == current:  # also after it was put back
            return
        try:
            with self._between_steps():
                self._reconfigure({name: value})
                step = self._adjuster.diagnostics.step
        except ValueError as error:
            time.sleep(0.1)  # until viser has told the others
            self._controls[name].value = current
            self._say(f"**Not changed.** {error}")
        else:
            CONSOLE.log(f"IGA: {name} is {value} instead of {current} after step {step}.")
            self._say("")

    def _reconfigure(self, changes: dict[str, Any]) -> None:
        if num_processes() > 1:
            raise ValueError("Several processes train together, and this viewer reaches one of them only.")
        end = changes.get("end", self._adjuster.end)
        rays = self.viewer.pipeline.datamanager.get_train_rays_per_batch()
        require_enough_groups(rays, end, self._adjuster.rule)
        self._adjuster.reconfigure(**changes)

    def _say(self, text: str) -> None:
        self._message.content = text
        self._message.visible = bool(text)

    def _keep_updating(self) -> None:
        """Make changes and update while somebody looks; a thread of its own, so that training does not wait for it."""
        while True:
            try:
                name = self._next_change()
                if name is not None:
                    self._change(name)
                if self.viser_server.get_clients():
                    self._update()
            except Exception as error:  # whatever it is, it must neither end the panel nor the training
                if isinstance(error, RuntimeError) and "after shutdown" in str(error):
                    return  # the viewer has been stopped
                logger.exception("IGA: the viewer's panel could not be updated; training goes on.")

    def _next_change(self) -> str | None:
        """A widget that was changed, or None after a while without."""
        try:
            return self._changes.get(timeout=UPDATE_SECONDS)
        except queue.Empty:
            return None

    def _update(self) -> None:
        """Show the step, the latest spectrum and the history, if there is something new."""
        # nerfstudio does so only when it renders.
        self.viewer.update_step(self.viewer.step)
        latest = self._latest_spectrum()
        self._summary.content = summary(self._adjuster, latest)
        if latest is None or latest.step == self._shown_step:
            return
        self._shown_step = latest.step
        spectrum_figure, history_figure = self._figures
        self._spectrum_plot.figure = spectrum_figure(latest)
        self._history_plot.figure = history_figure(self._history.spectra)
        self._draw_points()

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


def summary(adjuster: InductiveGradientAdjuster, spectrum: Spectrum | None) -> str:
    """The panel's words, as Markdown.

    Args:
        adjuster: What is shown.
        spectrum: Its latest spectrum, None before there is one.
    """
    if spectrum is None:
        return "No step has been adjusted yet." if adjuster.enabled else "The gradient is not adjusted."
    way = "set to" if spectrum.power == 1 else f"brought by power {spectrum.power:g} towards"
    reasons = ", ".join(f"{reason}: {count}" for reason, count in sorted(adjuster.diagnostics.unadjusted.items()))
    return (
        f"Eigenvalues {spectrum.start} to {spectrum.end} {way} {spectrum.target:.3g}; effective rank "
        f"{spectrum.effective_rank:.1f}; {spectrum.steps_unadjusted} steps left unadjusted"
        + (f" ({reasons})." if reasons else ".")
        + ("" if adjuster.enabled else " **Switched off.**")
    )
