"""``transforms*.json`` as Blender, instant-ngp, COLMAP's converters and people write them."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from reprlib import repr as short
from typing import Any

logger = logging.getLogger("iga_nerfstudio")

# Of a file that has no splits, every that many frames are kept for validation and test.
HELD_OUT = 8
# Cameras are of float32.
_LARGEST = 3.4e38
# Where a split may be taken from, best first.
_STANDS_FOR = {"train": ("train",), "val": ("val", "test"), "test": ("test", "val")}
LAYOUT = (
    "A scene of iga-blender holds transforms_train.json, transforms_val.json and transforms_test.json, or "
    "transforms.json alone, and the images that they name."
)
_ADD_OURS = "Add iga-blender at the end of the command."


@dataclass
class Transforms:
    """Frames of a split, as their file has them."""

    path: Path
    """The file."""
    shared: dict[str, Any]
    """What it says of all its frames."""
    frames: list[dict[str, Any]]
    """What it says of each frame of the split."""
    numbers: list[int]
    """The frames' numbers in the file."""

    def name(self, i: int) -> str:
        """The i-th frame, for a message."""
        return f"Frame {self.numbers[i]} ({self.frames[i].get('file_path', 'no file_path')}) of {self.path}"

    def keep(self, wanted: list[int]) -> Transforms:
        """Some of the frames, by their places in ``frames``."""
        return Transforms(self.path, self.shared, [self.frames[i] for i in wanted], [self.numbers[i] for i in wanted])

    def value(self, i: int, key: str) -> Any:
        """What the i-th frame, or else the file, says of something; None if neither does."""
        own = self.frames[i].get(key)
        return self.shared.get(key) if own is None else own

    def number(self, i: int, key: str) -> float | None:
        """The same, as a finite number.

        Raises:
            ValueError: If it is none.
        """
        value = self.value(i, key)
        if value is None:
            return None
        if not is_number(value):
            raise ValueError(f"{self.name(i)}: {key} must be a finite number, got {short(value)}.")
        return float(value)


def is_number(value: Any) -> bool:
    """Whether a value of a JSON file is a number, and finite as float32 too."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST


def read_transforms(data: Path, split: str) -> Transforms:
    """Read a split of a scene.

    Args:
        data: The scene's folder, or a file of its frames.
        split: ``train``, ``val`` or ``test``. Where there is only one of the two latter, it stands for the other;
            where there is no split at all, every 8th frame is in both and the others are for training.

    Returns:
        The split's frames.

    Raises:
        ValueError: If there is nothing to read, or it is no transforms file.
    """
    if data.suffix == ".json" and data.is_file():
        if not _is_one_of_splits(data):
            return _held_out(_load(data), split)
        data = data.parent
    if data.is_file():
        raise ValueError(f"{data} is no folder and no transforms file. Give a scene's folder with --data, unpacked.")
    if not data.is_dir():
        raise ValueError(_nowhere(data))
    files = _split_files(data)
    found = [name for name, path in files.items() if path.is_file()]
    if "train" in found and len(found) > 1:
        name = next(name for name in _STANDS_FOR[split] if name in found)
        if name != split:
            logger.warning("%s has no %s: %s is used in its place.", data, files[split].name, files[name].name)
        return _load(files[name])
    for alone in (files["train"], data / "transforms.json"):
        if alone.is_file():
            return _held_out(_load(alone), split)
    raise ValueError(f"transforms_train.json is missing from {data}, which {_content(data)}. {_way_out(data)}")


def _is_one_of_splits(path: Path) -> bool:
    """Whether a file is one of a scene's, which is meant then."""
    files = _split_files(path.parent).values()
    return path in files and sum(file.is_file() for file in files) > 1


def _split_files(folder: Path) -> dict[str, Path]:
    """Where a scene's splits are, by name."""
    return {name: folder / f"transforms_{name}.json" for name in _STANDS_FOR}


def require_nerfstudio_data(data: Path) -> None:
    """Say which parser reads a scene that nerfstudio-data does not.

    Args:
        data: A folder, or a file of its frames.

    Raises:
        ValueError: If there is no transforms.json, or one without focal lengths; names the parser for what there is.
    """
    path = data if data.is_file() else data / "transforms.json"
    if path.is_file():
        transforms = _load(path)
        if transforms.value(0, "fl_x") is None and transforms.value(0, "camera_angle_x") is not None:
            raise ValueError(f"{path} has no fl_x, which nerfstudio-data needs, but camera_angle_x. {_ADD_OURS}")
    elif not data.is_dir():
        raise ValueError(_nowhere(data))
    elif (data / "transforms_train.json").is_file():
        raise ValueError(
            f"{data} is a Blender scene (transforms_train.json), which nerfstudio-data does not read. {_ADD_OURS}"
        )
    else:
        raise ValueError(f"transforms.json is missing from {data}, which {_content(data)}. {_way_out(data)}")


def _nowhere(data: Path) -> str:
    here = "" if data.is_absolute() else f" in {Path.cwd()}"
    return (
        f"The data folder {data} does not exist{here}. Give a scene's folder with --data, or correct it in the "
        "config.yml of the run that is read."
    )


def _content(folder: Path) -> str:
    names = sorted(entry.name for entry in folder.iterdir())
    return f"has {', '.join(names[:8])}" if names else "is empty"


def _way_out(folder: Path) -> str:
    if (folder / "colmap").is_dir() or (folder / "sparse").is_dir():
        return (
            "It looks like COLMAP's: add the parser colmap at the end of the command, or make transforms.json with "
            "ns-process-data and add nerfstudio-data."
        )
    within = sorted({path.parent for path in folder.glob("*/transforms*.json")})
    if within:
        others = f", or one of {len(within) - 1} others there" if len(within) > 1 else ""
        return f"Give a scene's own folder: --data {within[0]}{others}."
    return LAYOUT


def _load(path: Path) -> Transforms:
    try:
        # As bytes: in UTF-8, or UTF-16, or with a mark of either, whatever the locale.
        meta = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is no valid JSON: {error}. {LAYOUT}") from error
    if not isinstance(meta, dict) or meta.get("frames") is None:
        raise ValueError(f"{path} lacks camera_angle_x or frames. {LAYOUT}")
    if not isinstance(meta["frames"], list):
        raise ValueError(f"{path}: frames must be a list, got {short(meta['frames'])}.")
    if not meta["frames"]:
        raise ValueError(f"{path} lists no frames. {LAYOUT}")
    frames = meta.pop("frames")
    for i, frame in enumerate(frames):
        if not isinstance(frame, dict) or not isinstance(frame.get("file_path"), str):
            raise ValueError(f"Frame {i} of {path} lacks a file_path.")
    return Transforms(path, meta, frames, list(range(len(frames))))


def _held_out(transforms: Transforms, split: str) -> Transforms:
    """A split of a file that holds all frames: what it lists as such, or else every 8th or the others."""
    lists = {name: transforms.shared.get(f"{name}_filenames") for name in _STANDS_FOR}
    for name, names in lists.items():
        if names is not None and not (isinstance(names, list) and all(isinstance(one, str) for one in names)):
            raise ValueError(f"{transforms.path}: {name}_filenames must list file paths, got {short(names)}.")
    count = len(transforms.frames)
    if any(names is not None for names in lists.values()):
        name = next((name for name in _STANDS_FOR[split] if lists[name]), split)
        listed = {Path(one) for one in lists[name] or ()}
        chosen = [i for i, frame in enumerate(transforms.frames) if Path(frame["file_path"]) in listed]
    else:
        chosen = [i for i in range(count) if (i % HELD_OUT != 0) == (split == "train")]
        if split == "train":
            logger.warning(
                "%s has no splits: %d of its %d frames, every %dth, are kept for evaluation. To have it read in "
                "nerfstudio's way, end the command with nerfstudio-data.",
                transforms.path,
                count - len(chosen),
                count,
                HELD_OUT,
            )
    if not chosen:
        raise ValueError(f"{transforms.path} holds {count} frames, none of them for the split {split}. Add frames.")
    return transforms.keep(chosen)
