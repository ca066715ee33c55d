"""Writes a built-in scene as a folder in the layout of the Blender NeRF-synthetic data set."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from iga_nerfstudio.arguments import whole_number
from iga_nerfstudio.files import write_bytes
from iga_nerfstudio.scenes.composition import SCENES, scene_parts
from iga_nerfstudio.scenes.render import (
    CAMERA_ANGLE_X,
    MIN_RESOLUTION,
    circle_cameras,
    hemisphere_cameras,
    render_view,
)
from iga_nerfstudio.scenes.shapes import FloatArray

SCENE_FILE = "scene.json"
"""Marks a folder as written by this module and holds the arguments it was written with."""

# To be raised whenever the pixels change, so that older folders are not taken for the present scene.
_VERSION = 1
# Turns the validation cameras away from the training cameras, which follow the same spiral.
_VAL_TURN = np.pi / 3

ViewCallback = Callable[[int, int], None]


def write_demo_scene(
    output_dir: Path,
    resolution: int = 100,
    num_train: int = 50,
    num_val: int = 4,
    num_test: int = 10,
    on_view: ViewCallback | None = None,
    scene: str = "lighthouse",
) -> Path:
    """Render a built-in scene into a folder that nerfstudio's Blender data parser reads.

    The same arguments give the same pixels. A complete folder made with the same arguments is left as it is,
    an interrupted one is rendered again. The transforms files come last: a folder with all three is complete.

    Args:
        output_dir: Folder to write, created if missing.
        resolution: Width and height of the images in pixels, at least 8.
        num_train: Number of training views, over the upper hemisphere, at least 1.
        num_val: Number of validation views, between the training views, 0 for none.
        num_test: Number of test views, on a circle, 0 for none.
        on_view: Called with the number of views written so far and in all, first with 0 written; not called
            if the folder is already complete.
        scene: Name of the scene: "lighthouse", which fills a good part of every view, or "orrery", a thin
            object in empty space.

    Returns:
        ``output_dir``.

    Raises:
        ValueError: If a number is out of range or no scene has that name; if the folder cannot be written; if
            it holds another scene or one made with other arguments, or files that this function has not written.
    """
    output_dir = Path(output_dir)
    scene_parts(scene)  # Refuses an unknown name before anything is written.
    arguments = {
        "resolution": whole_number("resolution", resolution, MIN_RESOLUTION),
        "num_train": whole_number("num_train", num_train, 1),
        "num_val": whole_number("num_val", num_val, 0),
        "num_test": whole_number("num_test", num_test, 0),
    }
    splits = {
        "train": hemisphere_cameras(arguments["num_train"]),
        "val": hemisphere_cameras(arguments["num_val"], turn=_VAL_TURN),
        "test": circle_cameras(arguments["num_test"]),
    }
    try:
        if not _is_complete(output_dir, _marker(scene, arguments), splits):
            _write_scene(output_dir, scene, arguments, splits, on_view)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ValueError(
            f"Cannot write the scene to {output_dir}: {reason}. Choose a folder that you may write to."
        ) from error
    return output_dir


def command_of(folder: Path) -> str | None:
    """The command that makes a folder's built-in scene, but for where; None where the folder holds no such scene."""
    try:
        marker = _read_marker(folder / SCENE_FILE)
    except (OSError, ValueError):
        return None
    options = (f"--{name.replace('_', '-')} {value}" for name, value in marker.items() if name != "version")
    return f"iga-scene {' '.join(options)}"


def _is_complete(output_dir: Path, marker: dict[str, object], splits: dict[str, FloatArray]) -> bool:
    """Whether the folder already holds exactly this scene; refuses folders that hold something else."""
    if output_dir.exists() and not output_dir.is_dir():
        raise ValueError(f"output_dir must be a folder, but {output_dir} is a file. Choose another path.")
    wanted = _wanted_files(output_dir, splits)
    if not (output_dir / SCENE_FILE).exists():
        _refuse_foreign_files(output_dir, wanted)
        return False
    found = _read_marker(output_dir / SCENE_FILE)
    if found != marker:
        raise ValueError(
            f"{output_dir} holds the scene {_describe(found)}, "
            f"but {_describe(marker)} was asked for. Choose another folder, or delete this one."
        )
    return all(path.is_file() for path in wanted)


def _wanted_files(output_dir: Path, splits: dict[str, FloatArray]) -> list[Path]:
    """All images and transforms files of the scene."""
    images = [output_dir / split / f"r_{i}.png" for split, cameras in splits.items() for i in range(len(cameras))]
    return images + [output_dir / f"transforms_{split}.json" for split in splits]


def _refuse_foreign_files(output_dir: Path, wanted: list[Path]) -> None:
    foreign = sorted(output_dir.glob("transforms*.json")) + [path for path in wanted if path.exists()]
    if foreign:
        raise ValueError(
            f"{output_dir} contains {foreign[0].relative_to(output_dir)} but no {SCENE_FILE}, "
            "so it belongs to another data set and is left as it is. Choose another folder."
        )


def _marker(scene: str, arguments: dict[str, int]) -> dict[str, object]:
    return {"scene": scene, "version": _VERSION, **arguments}


def _read_marker(path: Path) -> dict[str, object]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:  # Not JSON, or not even text.
        content = None
    # A list, as what others wrote there may have no hash.
    if not isinstance(content, dict) or content.get("scene") not in list(SCENES):
        raise ValueError(f"{path} was not written by this program, so its folder is left as it is. Choose another one.")
    return content


def _describe(marker: dict[str, object]) -> str:
    settings = " ".join(f"{name}={value}" for name, value in marker.items() if name != "scene")
    return f"{marker['scene']} made with {settings}"


def _write_scene(
    output_dir: Path,
    scene: str,
    arguments: dict[str, int],
    splits: dict[str, FloatArray],
    on_view: ViewCallback | None,
) -> None:
    output_dir.mkdir(parents=True, exist_ok=True)
    # First of all, so that an interrupted run's files are known as ours the next time.
    _write_json(output_dir / SCENE_FILE, _marker(scene, arguments))
    _write_images(output_dir, scene, arguments["resolution"], splits, on_view or (lambda written, total: None))
    for split, cameras in splits.items():
        _write_json(output_dir / f"transforms_{split}.json", _transforms(split, cameras))


def _write_images(
    output_dir: Path, scene: str, resolution: int, splits: dict[str, FloatArray], on_view: ViewCallback
) -> None:
    views = [(split, i, camera) for split, cameras in splits.items() for i, camera in enumerate(cameras)]
    on_view(0, len(views))
    for written, (split, i, camera) in enumerate(views, start=1):
        (output_dir / split).mkdir(exist_ok=True)
        view = render_view(camera, resolution, CAMERA_ANGLE_X, scene)
        write_bytes(output_dir / split / f"r_{i}.png", _png(view))
        on_view(written, len(views))


def _transforms(split: str, cameras: FloatArray) -> dict[str, object]:
    """Content of one transforms file. ``rotation`` is the original's angle step; no reader uses it."""
    frames = [
        {
            "file_path": f"./{split}/r_{i}",
            "rotation": 2.0 * np.pi / len(cameras),
            "transform_matrix": camera.tolist(),
        }
        for i, camera in enumerate(cameras)
    ]
    return {"camera_angle_x": CAMERA_ANGLE_X, "frames": frames}


def _png(rgba: FloatArray) -> bytes:
    """An RGBA image in [0, 1], ``(height, width, 4)``, as an 8-bit PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(np.floor(rgba * 255.0 + 0.5).astype(np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


def _write_json(path: Path, content: dict[str, object]) -> None:
    write_bytes(path, (json.dumps(content, indent=4) + "\n").encode())
