"""A scene's cameras from its transforms file: poses and lenses, checked frame by frame."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from reprlib import repr as short

import numpy as np
import numpy.typing as npt
import torch
from nerfstudio.cameras.cameras import CAMERA_MODEL_TO_TYPE, Cameras, CameraType
from torch import Tensor

from iga_nerfstudio.nerf.transforms import LAYOUT, Transforms, is_number

# Real files round their matrices; entries of a rotation may be off by that much.
_RIGID = 1e-2
# Degrees. No lens without distortion sees more; focal lengths that ask for it are of another unit.
_WIDEST = 150.0
# In nerfstudio's order.
_DISTORTION = ("k1", "k2", "k3", "k4", "p1", "p2")


def camera_poses(transforms: Transforms) -> Tensor:
    """The frames' camera-to-world matrices, checked.

    Args:
        transforms: Frames whose ``transform_matrix`` has 3 or 4 rows.

    Returns:
        float32 ``(n, 3, 4)``.

    Raises:
        ValueError: If one is missing, not finite, transposed or not rigid; names the frame.
    """
    matrices = np.stack([_matrix(transforms, i) for i in range(len(transforms.frames))])
    rotations = matrices[:, :3, :3]
    with np.errstate(all="ignore"):
        finite = np.isfinite(matrices.astype(np.float32)).all(axis=(1, 2))
        off = np.abs(np.swapaxes(rotations, 1, 2) @ rotations - np.eye(3)).max(axis=(1, 2))
        lengths, determinants = np.linalg.norm(rotations, axis=1), np.linalg.det(np.nan_to_num(rotations))
    last_row_off = np.abs(matrices[:, 3] - (0.0, 0.0, 0.0, 1.0)).max(axis=1)

    def refuse(bad: npt.NDArray[np.bool_], reason: Callable[[int], str]) -> None:
        if bad.any():
            i = int(bad.argmax())
            others = f" So it is with {bad.sum()} frames." if bad.sum() > 1 else ""
            raise ValueError(f"{transforms.name(i)}: its transform_matrix {reason(i)}.{others}")

    refuse(~finite, lambda i: "has entries that are not finite numbers. Remove the frame or correct its pose")
    refuse(
        last_row_off > _RIGID,
        lambda i: (
            f"ends with the row {matrices[i, 3].round(4).tolist()} instead of [0, 0, 0, 1]: it is transposed, or no "
            "pose. Transpose it, so that its last column holds the camera's position"
        ),
    )
    refuse(
        off > _RIGID,
        lambda i: (
            "is not rigid: its first three columns must have length 1 and right angles to one another; their lengths "
            f"are {lengths[i].round(4).tolist()}, entries of R^T R are off by up to {off[i]:.3g}. Remove scale and "
            "shear, in Blender those of the camera and its parents"
        ),
    )
    refuse(
        determinants < 0,
        lambda i: "is a mirror image, of determinant -1: negate the one of its first three columns that points wrongly",
    )
    return torch.from_numpy(matrices[:, :3].astype(np.float32))


def _matrix(transforms: Transforms, i: int) -> npt.NDArray[np.float64]:
    """A frame's matrix, ``(4, 4)``."""
    given = transforms.frames[i].get("transform_matrix")
    try:
        matrix = np.array(given, dtype=np.float64)
    except OverflowError:  # a whole number of hundreds of digits
        matrix = np.full((4, 4), np.inf)
    except (TypeError, ValueError):
        matrix = np.empty(0)
    if matrix.shape == (3, 4):
        matrix = np.vstack([matrix, (0.0, 0.0, 0.0, 1.0)])
    if matrix.shape != (4, 4):
        raise ValueError(f"{transforms.name(i)} lacks a transform_matrix of 4x4 or 3x4 numbers, got {short(given)}.")
    return matrix


def cameras_of(transforms: Transforms, poses: Tensor, images: list[Path], sizes: list[tuple[int, int]]) -> Cameras:
    """The frames' cameras.

    Focal lengths are ``fl_x`` and ``fl_y``, or else those of ``camera_angle_x`` and ``camera_angle_y``, or else that of
    the other axis; the principal point is ``cx``, ``cy``, or else the image's centre. What a frame says goes before
    what the file says of all.

    Args:
        transforms: Frames.
        poses: ``(n, 3, 4)``.
        images: Each frame's image.
        sizes: Its width and height, in pixels.

    Returns:
        n cameras, float32.

    Raises:
        ValueError: If a value is out of range or does not fit the image; names the frame.
    """
    frames = range(len(sizes))
    _require_fitting_sizes(transforms, images, sizes)
    intrinsics = torch.tensor([_intrinsics(transforms, i, *sizes[i]) for i in frames], dtype=torch.float32)
    distortion = torch.tensor([_distortion(transforms, i) for i in frames], dtype=torch.float32)
    fx, fy, cx, cy = intrinsics[:, :, None].unbind(1)
    return Cameras(
        camera_to_worlds=poses,
        fx=fx,
        fy=fy,
        cx=cx,
        cy=cy,
        width=torch.tensor([[width] for width, _ in sizes]),
        height=torch.tensor([[height] for _, height in sizes]),
        distortion_params=distortion if distortion.any() else None,
        camera_type=[_camera_type(transforms, i) for i in frames],
    )


def _require_fitting_sizes(transforms: Transforms, images: list[Path], sizes: list[tuple[int, int]]) -> None:
    """Images must be of the size that the file gives them; where it gives none to each, all of one size."""
    for i, (width, height) in enumerate(sizes):
        w, h = transforms.number(i, "w"), transforms.number(i, "h")
        # Blender cuts off what a resolution of some per cent leaves of a pixel; its add-ons do not.
        if any(said is not None and abs(said - size) >= 1 for said, size in ((w, width), (h, height))):
            raise ValueError(
                f"{transforms.name(i)}: {images[i]} has {width}x{height} pixels, but w and h are "
                f"{transforms.value(i, 'w')} and {transforms.value(i, 'h')}. Give the image's own, and focal lengths "
                "and principal point in its pixels."
            )
        if sizes[i] != sizes[0] and not {"w", "h"} <= transforms.frames[i].keys():
            raise ValueError(
                f"{transforms.name(i)}: {images[i]} has {width}x{height} pixels where {images[0]} has "
                f"{sizes[0][0]}x{sizes[0][1]}: all views of a split need one size, or w, h and intrinsics of their own."
            )


def _intrinsics(transforms: Transforms, i: int, width: int, height: int) -> tuple[float, float, float, float]:
    """Focal lengths and principal point of a frame, in pixels."""
    fx, fy = _focal(transforms, i, "x", width), _focal(transforms, i, "y", height)
    fx, fy = fx or fy, fy or fx
    if fx is None or fy is None:
        raise ValueError(f"{transforms.name(i)} has no focal length: the file lacks camera_angle_x and fl_x. {LAYOUT}")
    return fx, fy, _centre(transforms, i, "cx", width), _centre(transforms, i, "cy", height)


def _centre(transforms: Transforms, i: int, key: str, extent: int) -> float:
    """A coordinate of a frame's principal point, in pixels: that of a picture cut out of another may lie outside."""
    value = transforms.number(i, key)
    if value is None:
        return extent / 2
    if not -extent <= value <= 2 * extent:
        raise ValueError(
            f"{transforms.name(i)}: {key} is {value:.6g}, far outside an image of {extent} pixels along that axis. "
            "Give it in pixels of the image as it is."
        )
    return value


def _focal(transforms: Transforms, i: int, axis: str, extent: int) -> float | None:
    """A frame's focal length along an axis, in pixels: its own, or else the file's; None if neither is given."""
    for source in (transforms.frames[i], transforms.shared):
        if source.get(f"fl_{axis}") is not None:
            return _in_pixels(transforms, i, f"fl_{axis}", extent)
        if source.get(f"camera_angle_{axis}") is not None:
            return 0.5 * extent / float(np.tan(0.5 * _in_range(transforms, i, f"camera_angle_{axis}", np.pi)))
    return None


def _in_pixels(transforms: Transforms, i: int, key: str, extent: int) -> float:
    """A focal length that is given as such."""
    focal = _in_range(transforms, i, key, np.inf)
    angle = float(np.rad2deg(2 * np.arctan(0.5 * extent / focal)))
    if angle > _WIDEST and _camera_type(transforms, i) == CameraType.PERSPECTIVE:
        raise ValueError(
            f"{transforms.name(i)}: {key} is {focal:.6g}, an angle of view of {angle:.0f} degrees in an image of "
            f"{extent} pixels along that axis. Give it in pixels, not in millimetres or as a share of the width; if it "
            f"is meant, give camera_angle_{key[-1]} in its place."
        )
    return focal


def _in_range(transforms: Transforms, i: int, key: str, end: float) -> float:
    value = transforms.number(i, key)
    if value is None or not 0 < value < end:
        unit = "pixels" if end == np.inf else "radians"
        raise ValueError(f"{transforms.name(i)}: {key} must lie between 0 and {end:.4g} {unit}, got {value}.")
    return value


def _distortion(transforms: Transforms, i: int) -> list[float]:
    """A frame's distortion in nerfstudio's order; zeros if there is none."""
    listed = transforms.value(i, "distortion_params")
    if listed is None:
        return [transforms.number(i, key) or 0.0 for key in _DISTORTION]
    if not isinstance(listed, list) or len(listed) != len(_DISTORTION) or not all(map(is_number, listed)):
        wanted = ", ".join(_DISTORTION)
        raise ValueError(f"{transforms.name(i)}: distortion_params must be the numbers {wanted}, got {short(listed)}.")
    return listed


def _camera_type(transforms: Transforms, i: int) -> CameraType:
    fisheye = transforms.value(i, "is_fisheye")
    model = transforms.value(i, "camera_model") or ("OPENCV_FISHEYE" if fisheye else "PINHOLE")
    if not isinstance(model, str) or model not in CAMERA_MODEL_TO_TYPE:
        known = ", ".join(CAMERA_MODEL_TO_TYPE)
        raise ValueError(f"{transforms.name(i)}: camera_model {short(model)} is not among {known}.")
    return CAMERA_MODEL_TO_TYPE[model]
