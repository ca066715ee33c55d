"""The error at training views: other resolutions and fields of view, and no error where nothing can be said."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

from iga_nerfstudio.nerf.view_error import error_at_training_view, nearest_view


def cameras(focal: float, size: int, offsets: tuple[float, ...] = (0.0, 1.0)) -> Cameras:
    poses = torch.eye(4)[:3].repeat(len(offsets), 1, 1)
    poses[:, 0, 3] = torch.tensor(offsets)
    return Cameras(poses, focal, focal, size / 2, size / 2, size, size)


def picture(focal: float, size: int) -> Tensor:
    """What a camera sees of colours that depend on the direction alone, linearly."""
    angle = (torch.arange(size) + 0.5 - size / 2) / focal
    y, x = torch.meshgrid(angle, angle, indexing="ij")
    return 0.5 + 0.3 * torch.stack([x, y, x - y], dim=-1)


def views(truth: Tensor) -> Any:
    return SimpleNamespace(cameras=cameras(20.0, 20), get_image_float32=lambda index: truth + index)


def identity(image: Tensor) -> Tensor:
    return image


@pytest.mark.parametrize(("focal", "size"), [(20.0, 20), (60.0, 60), (30.0, 20)])
def test_the_view_itself_has_no_error_at_any_resolution_and_zoom(focal: float, size: int) -> None:
    rendering = picture(focal, size)
    error = error_at_training_view(views(picture(20.0, 20)), cameras(focal, size, (0.0,)), rendering, identity)
    assert error.shape == (size, size, 1)
    # At the very rim bilinear interpolation has no neighbours.
    margin = size // 10
    assert error[margin:-margin, margin:-margin].max() < 1e-5
    worse = error_at_training_view(views(picture(20.0, 20)), cameras(focal, size, (0.0,)), rendering + 0.25, identity)
    assert worse[margin:-margin, margin:-margin].sub(0.25).abs().max() < 1e-5


def test_what_the_view_does_not_show_has_no_error() -> None:
    """A camera of twice the field of view: the view fills the middle half."""
    error = error_at_training_view(
        views(torch.zeros(20, 20, 3)), cameras(10.0, 20, (0.0,)), torch.ones(20, 20, 3), identity
    )
    assert torch.equal(error[..., 0].nonzero().amin(0), torch.tensor([5, 5]))
    assert torch.equal(error[..., 0].nonzero().amax(0), torch.tensor([14, 14]))
    assert error.sum() == 100


@pytest.mark.parametrize(
    ("offset", "expected"), [(0.0, (0, True)), (1.0005, (1, True)), (0.4, (0, False)), (1.01, (1, False))]
)
def test_views_are_found_by_their_pose(offset: float, expected: tuple[int, bool]) -> None:
    camera = cameras(20.0, 20, (offset,))
    assert nearest_view(cameras(20.0, 20), camera.camera_to_worlds[0]) == expected
    if not expected[1]:
        rendering = torch.ones(20, 20, 3)
        assert error_at_training_view(views(rendering), camera, rendering, identity).sum() == 0


def test_a_turned_camera_is_another_one() -> None:
    turned = torch.eye(4)[:3]
    angle = math.radians(2)
    turned[:2, :2] = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    assert nearest_view(cameras(20.0, 20), turned) == (0, False)


def test_transparent_views_are_put_before_the_background() -> None:
    truth = torch.zeros(20, 20, 4)
    error = error_at_training_view(
        views(truth), cameras(20.0, 20, (0.0,)), torch.ones(20, 20, 3), lambda rgba: rgba[..., :3] + (1 - rgba[..., 3:])
    )
    assert error.sum() == 0
