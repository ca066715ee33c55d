"""The adjustment where rays are groups: its settings and what every NeRF model does with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.datasets.base_dataset import InputDataset
from nerfstudio.data.scene_box import OrientedBox
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackAttributes, TrainingCallbackLocation
from nerfstudio.model_components.renderers import RGBRenderer
from nerfstudio.models.base_model import Model
from nerfstudio.utils import comms
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor, nn

from iga_nerfstudio.adjustment import (
    Chosen,
    InductiveGradientAdjuster,
    Rays,
    require_enough_groups,
    sum_of_logits,
    sum_of_sigmoids,
)
from iga_nerfstudio.adjustment.history import SpectrumHistory
from iga_nerfstudio.adjustment.processes import num_processes
from iga_nerfstudio.adjustment.settings import adjuster_of
from iga_nerfstudio.nerf.backgrounds import advise_background
from iga_nerfstudio.nerf.collapse import CollapseWatch
from iga_nerfstudio.nerf.view_error import error_at_training_view
from iga_nerfstudio.nerf.viewer_panel import AdjustmentPanel
from iga_nerfstudio.settings import AdjustmentSettings, earlier_values


def sum_of_colours(outputs: Tensor) -> Tensor:
    """Sum of the sigmoids of the colours over sqrt(3), density left out: ``(..., 4)`` to ``(...)``."""
    return sum_of_sigmoids(outputs[..., :3])


READOUTS = {"activated": sum_of_sigmoids, "logits": sum_of_logits, "colours": sum_of_colours}

# Opacity below which a ray sees nothing.
EMPTY = 1e-2

RayRepresentative = Literal["largest_weight", "random", "middle"]


@dataclass
class RayAdjustmentConfig(AdjustmentSettings):
    """How the gradient of rendered colours is adjusted."""

    end: int = 25
    """Last balanced eigenvalue. Larger acts more strongly on fine detail; 0 is plain training. Must stay below the
    number of rays per batch."""
    rule: Literal["adam", "sgd"] = "adam"
    """Balance to eigenvalue end + 1 (for Adam, Muon and their kin) or to eigenvalue start (for plain SGD)."""
    power: float = 1.0
    """How far the balanced eigenvalues are brought to that one, in (0, 1]; 1 is all the way, as in the paper."""
    floor: float = field(default=0.0, metadata={"earlier": 0.0})
    """No balanced pattern of the residual is slowed to less than that share of its speed, in [0, 1); 0 is the paper's,
    which in short trainings at small learning rates finds the shape of a scene late."""
    representative: RayRepresentative = "largest_weight"
    """Which sample stands for its ray in the kernel."""
    num_representatives: int = 1
    """Samples per ray in the kernel. Several of largest_weight count in proportion to their weight."""
    refresh_interval: int = 1
    """Adjust every that many steps. The rays of a step have a kernel of their own, so the steps between are plain."""
    readout: Literal["activated", "logits", "colours"] = "activated"
    """What the kernel differentiates: the sum of the sigmoids of colour and density (as the authors' code does), the
    sum of the raw outputs, or the sum of the sigmoids of the colour alone."""
    kernel_of: Literal["samples", "visible"] = "samples"
    """What the kernel is of: the representatives' readouts, as in the paper ("samples"), or these times the opacity of
    their rays ("visible"): rays that see nothing then have no part in it."""
    until: float = field(default=1.0, metadata={"earlier": 1.0})
    """How much of the training is adjusted, from its beginning on: a share of its steps, in (0, 1]. The rest is plain
    training, at its price."""
    seed: int = 0
    """Seed of random representatives."""
    gather: bool = False
    """With several GPUs, whose rays the kernel is of. False: each process adjusts by the kernel of its own rays, and
    nothing is communicated for it. True: all processes compute the kernel of all their rays, as one process with the
    larger batch would; it costs each a kernel of (rays x processes)^2 entries and three small exchanges a step. All
    processes need the same settings and number of rays."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take up what a run's config.yml says; a setting that it does not name came later, and is what it was then."""
        vars(self).update(earlier_values(self) | state)


def build_ray_adjuster(
    settings: RayAdjustmentConfig, network: nn.Module, samples_per_ray: int, cuda_graph: bool
) -> InductiveGradientAdjuster:
    """The adjuster of a NeRF model.

    Args:
        settings: How to adjust.
        network: What the kernel is of, called with the representatives; returns raw colours and density, ``(n, 4)``.
        samples_per_ray: Slots of a group, p.
        cuda_graph: Whether a GPU may replay what the network did once.

    Raises:
        ValueError: If a setting is invalid.
    """
    return adjuster_of(
        settings,
        network,
        Rays(samples_per_ray),
        readout=READOUTS[settings.readout],
        seed=settings.seed,
        floor=settings.floor,
        gather=settings.gather,
        cuda_graph=cuda_graph,
    )


def shares_of(kernel_of: str, chosen: Chosen, weights: Tensor) -> Tensor | None:
    """What each representative counts in the kernel's scalar of its ray.

    Args:
        kernel_of: As in the settings: "samples" or "visible".
        chosen: Slots ``(n, m)``.
        weights: The rays' rendering weights, ``(n, p)``; their sums are opacities.

    Returns:
        ``(n, m)``, or ``(n,)`` for one representative a ray, zero for rays that see nothing; None if all count alike.
    """
    if kernel_of == "samples":
        return chosen.weights
    opacity = weights.sum(-1)
    # A ray of less would have a ten-thousandth in the kernel; rows of zeros are left out of its computation.
    opacity = opacity * (opacity >= EMPTY)
    return opacity if chosen.weights is None else chosen.weights * opacity[:, None]


def require_enough_rays(adjuster: InductiveGradientAdjuster, attributes: TrainingCallbackAttributes) -> None:
    """Refuse to start a training whose batches are too small for the adjustment.

    Args:
        adjuster: The model's adjuster.
        attributes: What the trainer hands to the model before training.

    Raises:
        ValueError: If ``end`` asks for more eigenvalues than the kernel has rays.
    """
    pipeline = attributes.pipeline
    if not adjuster.enabled or pipeline is None:
        return
    num_rays = pipeline.datamanager.get_train_rays_per_batch()
    if adjuster.gather:
        num_rays *= num_processes()
    try:
        require_enough_groups(num_rays, adjuster.end, adjuster.rule)
    except ValueError as error:
        raise ValueError(
            f"Every ray is a group. {error} Change --pipeline.model.adjustment.end or "
            "--pipeline.datamanager.train-num-rays-per-batch."
        ) from None


def diagnostic_metrics(adjuster: InductiveGradientAdjuster) -> dict[str, Any]:
    """What the latest step's adjustment saw, as metrics under ``iga/``; nothing before the first."""
    diagnostics = adjuster.diagnostics
    if not len(diagnostics.eigenvalues):
        return {}
    # What a person has switched off in the viewer is seen here too.
    settings = {"iga/end": adjuster.end if adjuster.enabled else 0}
    if not adjuster.active:
        return settings
    return settings | {
        "iga/leading_eigenvalue": diagnostics.eigenvalues[0],
        "iga/target_eigenvalue": diagnostics.target,
        "iga/effective_rank": diagnostics.effective_rank,
        "iga/steps_unadjusted": diagnostics.steps_unadjusted,
    }


class AdjustedRays(Model):
    """What every model with an adjuster does with it, beside its training step: a mixin, put before the model's class.

    The adjustment ends where the settings say. Checkpoints hold the adjuster's state and the history of the spectrum,
    nerfstudio's viewer shows a panel, and what is rendered of a whole camera comes with its error where the camera
    stands at a training view.
    """

    renderer_rgb: RGBRenderer
    adjuster: InductiveGradientAdjuster
    history: SpectrumHistory
    panel: AdjustmentPanel
    collapse: CollapseWatch
    # Set by the pipeline.
    training_views: InputDataset | None = None
    # Representatives of the latest step, (m, 3).
    latest_points: Tensor | None = None

    def adjust_with(self, adjuster: InductiveGradientAdjuster, until: float) -> None:
        """Take an adjuster up, when the model's modules are being built.

        Args:
            adjuster: The adjuster.
            until: How much of the training it is for, as in the settings.

        Raises:
            ValueError: If that is no share.
        """
        if not 0 < until <= 1:
            raise ValueError(
                f"adjustment.until is the share of the training that is adjusted, above 0 and at most 1; got {until}. "
                "To train without, set adjustment.enabled to False."
            )
        self.adjuster, self._until, self._ended = adjuster, until, not adjuster.enabled
        self.collapse = CollapseWatch()
        self.history = SpectrumHistory()
        self.panel = AdjustmentPanel(
            adjuster, self.history, lambda: self.latest_points, representatives=get_args(RayRepresentative)
        )

    def get_extra_state(self) -> dict[str, Any]:
        """The adjuster's state and the spectrum's history."""
        return self.adjuster.state_dict() | {"history": self.history.state_dict()}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take up both from a checkpoint."""
        self.adjuster.load_state_dict(state)
        if "history" in state:  # not in checkpoints of earlier versions
            self.history.load_state_dict(state["history"])

    def get_training_callbacks(
        self, training_callback_attributes: TrainingCallbackAttributes
    ) -> list[TrainingCallback]:
        """The model's own, one that ends the adjustment, and one that records the spectrum after every step.

        Raises:
            ValueError: If ``adjustment.end`` asks for more eigenvalues than the kernel has rays.
        """
        require_enough_rays(self.adjuster, training_callback_attributes)
        pipeline = training_callback_attributes.pipeline
        views = None if pipeline is None else pipeline.datamanager.train_dataset
        if views is not None and comms.is_main_process():
            advise_background(self.renderer_rgb.background_color, views)
        own = super().get_training_callbacks(training_callback_attributes)
        trainer = training_callback_attributes.trainer
        if trainer is not None:
            # Now: while it trains, the trainer's setting is how many steps it takes itself.
            num_steps = trainer.config.max_num_iterations
            begin = TrainingCallback(
                where_to_run=[TrainingCallbackLocation.BEFORE_TRAIN_ITERATION],
                func=lambda step: self.begin_step(step, num_steps),
            )
            own.append(begin)
        record = TrainingCallback(
            where_to_run=[TrainingCallbackLocation.AFTER_TRAIN_ITERATION],
            func=lambda step: self.history.record(self.adjuster),
        )
        return [*own, record]

    def begin_step(self, step: int, num_steps: int) -> None:
        """Before every training step: end the adjustment if what is left of the training is to be plain.

        Args:
            step: The training's step, counted from 0.
            num_steps: How many it has.
        """
        # Once: who switches it on again in the viewer means it.
        if self._ended or step < self._until * num_steps:
            return
        self._ended = True
        self.adjuster.reconfigure(enabled=False)
        self.panel.show_enabled()
        if not comms.is_main_process():
            return
        CONSOLE.log(
            f"IGA: {100 * self._until:g}% of the training is adjusted, and that is done. What is left of its "
            f"{num_steps} steps is plain (--pipeline.model.adjustment.until)."
        )

    def get_outputs_for_camera(self, camera: Cameras, obb_box: OrientedBox | None = None) -> dict[str, Tensor]:
        """The model's outputs, ``(H, W, C)`` each, and ``error`` (H, W, 1) against the training view at that place."""
        outputs = super().get_outputs_for_camera(camera, obb_box)
        if self.training_views is not None:
            composite = self.renderer_rgb.blend_background
            outputs["error"] = error_at_training_view(self.training_views, camera, outputs["rgb"], composite)
        return outputs
