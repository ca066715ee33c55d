"""The adjustment where rays are groups: its settings and what every NeRF model does with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from nerfstudio.engine.callbacks import TrainingCallbackAttributes
from torch import Tensor, nn

from iga_nerfstudio.adjustment import (
    InductiveGradientAdjuster,
    Rays,
    require_enough_groups,
    sum_of_logits,
    sum_of_sigmoids,
)
from iga_nerfstudio.adjustment.processes import num_processes


def sum_of_colours(outputs: Tensor) -> Tensor:
    """Sum of the sigmoids of the colours over sqrt(3), density left out: ``(..., 4)`` to ``(...)``."""
    return sum_of_sigmoids(outputs[..., :3])


READOUTS = {"activated": sum_of_sigmoids, "logits": sum_of_logits, "colours": sum_of_colours}


@dataclass
class RayAdjustmentConfig:
    """How the gradient of rendered colours is adjusted."""

    enabled: bool = True
    """Adjust the gradient. False trains the plain NeRF: same network, data, schedule and random numbers."""
    start: int = 1
    """First balanced eigenvalue of the kernel, counted from 1."""
    end: int = 25
    """Last balanced eigenvalue. Larger acts more strongly on fine detail; 0 is plain training. Must stay below the
    number of rays per batch."""
    rule: Literal["adam", "sgd"] = "adam"
    """Balance to eigenvalue end + 1 (for Adam, Muon and their kin) or to eigenvalue start (for plain SGD)."""
    representative: Literal["largest_weight", "random", "middle"] = "largest_weight"
    """Which sample stands for its ray in the kernel."""
    num_representatives: int = 1
    """Samples per ray in the kernel. Several of largest_weight count in proportion to their weight."""
    readout: Literal["activated", "logits", "colours"] = "activated"
    """What the kernel differentiates: the sum of the sigmoids of colour and density (as the authors' code does), the
    sum of the raw outputs, or the sum of the sigmoids of the colour alone."""
    eigen_method: Literal["auto", "dense", "subspace"] = "auto"
    """Leading eigenpairs by a full decomposition, by block power iteration, or whichever is faster."""
    refresh_interval: int = 1
    """Adjust every that many steps. The rays of a step have a kernel of their own, so the steps between are plain."""
    seed: int = 0
    """Seed of random representatives."""
    gather: bool = False
    """With several GPUs, whose rays the kernel is of. False: each process adjusts by the kernel of its own rays, and
    nothing is communicated for it. True: all processes compute the kernel of all their rays, as one process with the
    larger batch would; it costs each a kernel of (rays x processes)^2 entries and three small exchanges a step. All
    processes need the same settings and number of rays."""


def build_ray_adjuster(
    settings: RayAdjustmentConfig, network: nn.Module, samples_per_ray: int
) -> InductiveGradientAdjuster:
    """The adjuster of a NeRF model.

    Args:
        settings: How to adjust.
        network: What the kernel is of, called with the representatives; returns raw colours and density, ``(n, 4)``.
        samples_per_ray: Slots of a group, p.

    Raises:
        ValueError: If a setting is invalid.
    """
    return InductiveGradientAdjuster(
        network,
        Rays(samples_per_ray),
        end=settings.end,
        start=settings.start,
        rule=settings.rule,
        representative=settings.representative,
        num_representatives=settings.num_representatives,
        readout=READOUTS[settings.readout],
        eigen_method=settings.eigen_method,
        refresh_interval=settings.refresh_interval,
        enabled=settings.enabled,
        seed=settings.seed,
        gather=settings.gather,
    )


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
    if not adjuster.enabled or not len(diagnostics.eigenvalues):
        return {}
    return {
        "iga/leading_eigenvalue": diagnostics.eigenvalues[0],
        "iga/target_eigenvalue": diagnostics.target,
        "iga/effective_rank": diagnostics.effective_rank,
        "iga/steps_unadjusted": diagnostics.steps_unadjusted,
    }


class AdjustedRays(nn.Module):
    """A model with an ``adjuster``, whose state its checkpoints hold."""

    adjuster: InductiveGradientAdjuster

    def get_extra_state(self) -> dict[str, Any]:
        """The adjuster's state."""
        return self.adjuster.state_dict()

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take up the adjuster's state from a checkpoint."""
        self.adjuster.load_state_dict(state)
