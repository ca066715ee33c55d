"""The error of a rendering where the camera stands at a training view's place."""

from __future__ import annotations

from collections.abc import Callable

import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.datasets.base_dataset import InputDataset
from torch import Tensor
from torch.nn.functional import grid_sample

# How far entries of two camera poses may differ: the viewer sends poses through a browser and back.
POSE_TOLERANCE = 2e-3


def nearest_view(cameras: Cameras, pose: Tensor) -> tuple[int, bool]:
    """The training view whose pose is most like another.

    Args:
        cameras: Of the training views.
        pose: Camera to world, ``(3, 4)``.

    Returns:
        The view's index, and whether both stand at one place and look the same way.
    """
    poses = cameras.camera_to_worlds
    distances = (poses - pose.to(poses)).abs().amax(dim=(1, 2))
    nearest = int(distances.argmin())
    return nearest, bool(distances[nearest] <= POSE_TOLERANCE)


def error_at_training_view(
    views: InputDataset, camera: Cameras, rendering: Tensor, composite: Callable[[Tensor], Tensor]
) -> Tensor:
    """Mean absolute colour error against the training view that a camera stands at.

    Field of view and resolution may be other than the view's, as they are in the viewer: directions from one place
    are compared, and what the view does not show has no error.

    Args:
        views: Training views.
        camera: The camera of the rendering, one.
        rendering: Colours, ``(H, W, 3)``.
        composite: Puts a view, ``(h, w, 3 or 4)``, before the background.

    Returns:
        ``(H, W, 1)``; zero where there is nothing to compare with, everywhere if no view has the camera's pose.
    """
    error = torch.zeros_like(rendering[..., :1])
    index, same = nearest_view(views.cameras, camera.camera_to_worlds.reshape(-1, 3, 4)[0])
    if not same:
        return error
    truth = composite(views.get_image_float32(index).to(rendering))[..., :3]
    height, width = rendering.shape[:2]
    own, other = _intrinsics(camera), _intrinsics(views.cameras[index])
    x = _place(torch.arange(width).to(rendering), own[0], own[2], other[0], other[2], truth.shape[1])
    y = _place(torch.arange(height).to(rendering), own[1], own[3], other[1], other[3], truth.shape[0])
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
    seen = grid_sample(truth.permute(2, 0, 1)[None], grid[None], mode="bilinear", align_corners=False)
    difference = (rendering - seen[0].permute(1, 2, 0)).abs().mean(-1, keepdim=True)
    return torch.where((grid.abs() <= 1).all(-1, keepdim=True), difference, error)


def _intrinsics(camera: Cameras) -> tuple[float, float, float, float]:
    """Focal lengths and principal point, in pixels."""
    return tuple(float(value.flatten()[0]) for value in (camera.fx, camera.fy, camera.cx, camera.cy))  # type: ignore[return-value]


def _place(pixels: Tensor, focal: float, centre: float, other_focal: float, other_centre: float, size: int) -> Tensor:
    """Where pixels along one axis lie in another picture from the same place, as grid_sample counts: [-1, 1]."""
    return 2 * ((pixels + 0.5 - centre) / focal * other_focal + other_centre) / size - 1
