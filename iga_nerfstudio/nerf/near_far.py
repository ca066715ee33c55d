"""Where along its rays a scene lies, and in which unit the network sees it, from the cameras that look at it."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field, replace

import torch
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.model_components.scene_colliders import NearFarCollider
from torch import Tensor

logger = logging.getLogger("iga_nerfstudio")

# Where a data manager leaves the cameras for the model, in its metadata.
TRAINING_POSES = "training_poses"
# The paper's planes; its cameras stand about 4 from the point that they look at, and so does the encoding's unit.
NEAR, FAR, DISTANCE = 2.0, 6.0, 4.0
# Cameras between these distances from the origin, and looking at it, are a Blender scene's as the paper has them.
_STANDARD = (3.0, 5.0)
# Cosine of the largest angle between a camera's axis and the point that it is said to look at.
_IN_VIEW = 0.7
# Fraction of the cameras that must have it in view.
_MOST = 0.9
# Least mean squared sine of the angle between the axes and any one direction: below, they are all but parallel.
_CONVERGING = 0.01
# Relative error of a distance in float32.
_ROUNDING = 1e-5
_TO_SET = "--pipeline.model.collider-params near_plane N far_plane F"


@dataclass(frozen=True)
class SceneBounds:
    """Where rays are sampled, in the world's unit, and how the network sees the world."""

    near: float = NEAR
    """Distance at which sampling starts in training."""
    far: float = FAR
    """Distance at which it ends."""
    centre: tuple[float, ...] = (0.0, 0.0, 0.0)
    """The world's place that is the network's origin."""
    scale: float = 1.0
    """Length of the world's unit in the network's; far is at 6 there."""
    closest: float = field(default=DISTANCE, compare=False)
    """Distance of the closest training camera from the centre, in the world's unit."""

    def to_network(self, rays: RayBundle) -> RayBundle:
        """Rays as the network sees them; the very same ones if it sees the world as it is."""
        if self.scale == 1.0 and not any(self.centre):
            return rays
        assert rays.nears is not None
        assert rays.fars is not None
        origins = (rays.origins - rays.origins.new_tensor(self.centre)) * self.scale
        return replace(rays, origins=origins, nears=rays.nears * self.scale, fars=rays.fars * self.scale)

    def to_world(self, points: Tensor) -> Tensor:
        """The network's points, ``(..., 3)``, in the world."""
        return points / self.scale + points.new_tensor(self.centre)


class TrainedSpaceCollider(NearFarCollider):
    """Rays begin where those of training did, in rendering too.

    nerfstudio's begin at the camera outside training, in space that no ray of training crossed: what a network happens
    to hold there hides the scene from a test view, and coarse samples lie farther apart than they were trained to. Only
    a camera that stands closer to the scene than all of training's begins as much closer, so that the viewer can go in.
    """

    def __init__(self) -> None:
        super().__init__(NEAR, FAR, reset_near_plane=False)
        self.bounds = SceneBounds()

    def within(self, bounds: SceneBounds) -> None:
        """Sample between other bounds from now on."""
        self.bounds, self.near_plane, self.far_plane = bounds, bounds.near, bounds.far

    def set_nears_and_fars(self, ray_bundle: RayBundle) -> RayBundle:
        """Set near and far of rays, ``(..., 1)`` each, in the world's unit."""
        ray_bundle = super().set_nears_and_fars(ray_bundle)
        if not self.training:
            origins, closest = ray_bundle.origins, self.bounds.closest
            distances = (origins - origins.new_tensor(self.bounds.centre)).norm(dim=-1, keepdim=True)
            closer = (closest - distances).clamp_min(0)
            # A camera of training's own is closer by no more than rounding.
            closer = closer * (closer > _ROUNDING * closest)
            ray_bundle.nears = (ray_bundle.nears - closer).clamp_min(0)
        return ray_bundle


def set_bounds(planes: dict[str, float] | None) -> SceneBounds:
    """The planes that a person has set, or else the paper's, and the world as it is.

    Args:
        planes: ``near_plane`` and ``far_plane``, or None.

    Raises:
        ValueError: If they are no range.
    """
    if planes is None:
        return SceneBounds()
    if planes.keys() != {"near_plane", "far_plane"}:
        raise ValueError(f"Near and far are near_plane and far_plane, got {', '.join(planes)}. Set {_TO_SET}.")
    bounds = SceneBounds(planes["near_plane"], planes["far_plane"])
    if not 0 <= bounds.near < bounds.far < math.inf:
        raise ValueError(f"near_plane {bounds.near:g} and far_plane {bounds.far:g} are no range. Set {_TO_SET}, N < F.")
    return bounds


def find_bounds(poses: Tensor | None, planes: dict[str, float] | None) -> SceneBounds:
    """Bounds of the scene that training cameras look at.

    Blender's scenes, whose cameras stand 3 to 5 from the origin and look at it, get the paper's near 2 and far 6.
    Elsewhere, near is half the shortest and far one and a half times the longest distance of a camera to the point that
    they look at together: the paper's proportions. The network's unit is such that far is at 6 there.

    Args:
        poses: Camera-to-world matrices, ``(n, 3, 4)``, cameras looking along -z; None or empty where they are not
            known, which is taken for a Blender scene.
        planes: ``near_plane`` and ``far_plane``, where a person has set them.

    Returns:
        The bounds.

    Raises:
        ValueError: If the planes are not set and the cameras do not look at one point, or if they are no range.
    """
    if poses is None or not len(poses):
        return set_bounds(planes)
    bounds = _find_bounds(poses, planes)
    closest = (poses[:, :, 3] - poses.new_tensor(bounds.centre)).norm(dim=-1).min()
    return replace(bounds, closest=float(closest))


def _find_bounds(poses: Tensor, planes: dict[str, float] | None) -> SceneBounds:
    bounds = set_bounds(planes)
    seen = bounds_of(poses)
    if seen == SceneBounds():
        return bounds
    if planes is not None:
        centre = poses[:, :, 3].mean(dim=0).tolist() if seen is None else seen.centre
        return replace(bounds, centre=tuple(centre), scale=FAR / bounds.far)
    nearest, farthest = poses[:, :, 3].norm(dim=-1).aminmax()
    if seen is None:
        raise ValueError(
            f"Near and far cannot be told from the cameras: they do not look at one point, and stand {nearest:.3g} to "
            f"{farthest:.3g} from the origin, Blender scenes' about {DISTANCE:g}. Set {_TO_SET}, the distances between "
            "which all that they see lies, or use iga-nerfacto with nerfstudio-data, which needs neither."
        )
    logger.warning(
        "Cameras stand %.3g to %.3g from the point that they look at, a Blender scene's about %g: near is %.3g and far "
        "%.3g instead of 2 and 6, and the network sees lengths times %.3g. To set the two: %s. What lies beyond far is "
        "not seen: iga-nerfacto is for scenes with surroundings.",
        seen.near * DISTANCE / NEAR,
        seen.far * DISTANCE / FAR,
        DISTANCE,
        seen.near,
        seen.far,
        seen.scale,
        _TO_SET,
    )
    return seen


def bounds_of(poses: Tensor) -> SceneBounds | None:
    """What :func:`find_bounds` finds where no planes are set, without a word.

    Args:
        poses: Camera-to-world matrices, ``(n, 3, 4)``.

    Returns:
        The bounds, or None if the cameras do not look at one point.
    """
    positions = poses[:, :, 3].double()
    axes = torch.nn.functional.normalize(-poses[:, :, 2].double(), dim=-1)
    distances = positions.norm(dim=-1)
    if _STANDARD[0] <= distances.min() and distances.max() <= _STANDARD[1] and _in_view(positions, axes).all():
        return SceneBounds()
    focus = focus_point(positions, axes)
    if focus is None:
        return None
    distances = (positions - focus)[_in_view(positions - focus, axes)].norm(dim=-1)
    near, far = float(distances.min() * NEAR / DISTANCE), float(distances.max() * FAR / DISTANCE)
    return SceneBounds(near, far, tuple(focus.tolist()), FAR / far)


def focus_point(positions: Tensor, axes: Tensor) -> Tensor | None:
    """The point that is closest to all cameras' axes, in squared distance.

    Args:
        positions: Of the cameras, ``(n, 3)``, float64.
        axes: Unit directions that they look in, ``(n, 3)``.

    Returns:
        ``(3,)``, or None if the axes are all but parallel, or the point is not what most of the cameras see.
    """
    # Projections onto the planes across the axes.
    across = torch.eye(3, dtype=axes.dtype) - axes[:, :, None] * axes[:, None, :]
    mean = across.mean(dim=0)
    if torch.linalg.eigvalsh(mean)[0] < _CONVERGING:
        return None
    focus = torch.linalg.solve(mean, (across @ positions[:, :, None]).mean(dim=0))[:, 0]
    return focus if _in_view(positions - focus, axes).double().mean() >= _MOST else None


def _in_view(positions: Tensor, axes: Tensor) -> Tensor:
    """Whether cameras have the origin in view, ``(n,)``."""
    return -(positions * axes).sum(dim=-1) >= _IN_VIEW * positions.norm(dim=-1)
