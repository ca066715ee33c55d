"""OBJ files: what they hold of polygons."""

from __future__ import annotations

import numpy as np

from iga_nerfstudio.data.files import as_text
from iga_nerfstudio.data.polygons import PolygonMesh

# What adds to the surface and is not read: free-form surfaces, and other files put in.
_NOT_READ = {"surf": "free-form surfaces (surf)", "call": "another file (call)"}


def read_obj(content: bytes) -> PolygonMesh:
    """Read vertices and faces of all objects and groups together.

    Read here because trimesh and libigl lose what common dialects hold: relative indices that follow their object,
    tabs, indented and continued lines, line ends of the old Macintosh, comments behind the numbers.

    Args:
        content: The file.

    Returns:
        The polygons. Lines and points are left out.

    Raises:
        ValueError: If a number cannot be read, or if a part of the surface would be left out.
    """
    vertices: list[list[float]] = []
    corners: list[int] = []
    sizes: list[int] = []
    for line in as_text(content).replace("\\\n", " ").split("\n"):
        words = line.partition("#")[0].split()
        keyword = words[0].lower() if words else ""
        if keyword == "v":
            vertices.append(_position(line, words))
        elif keyword in ("f", "fo"):
            face = [_index(line, word, len(vertices)) for word in words[1:]]
            corners += face
            sizes.append(len(face))
        elif keyword in _NOT_READ:
            raise ValueError(f"it has {_NOT_READ[keyword]}, which are not read. Export its surface as polygons.")
    return PolygonMesh(np.array(vertices, np.float64).reshape(-1, 3), np.array(corners, np.int64), np.array(sizes, int))


def _position(line: str, words: list[str]) -> list[float]:
    try:
        x, y, z = (float(word) for word in words[1:4])
    except ValueError:
        reason = "Write decimal points for its commas." if "," in line else "Export it again."
        raise ValueError(f"the line {line.strip()[:80]!r} has no three numbers. {reason}") from None
    return [x, y, z]


def _index(line: str, word: str, num_vertices: int) -> int:
    """Index of a corner from 0 on; negative ones count back from the vertices so far."""
    try:
        index = int(word.partition("/")[0])
    except ValueError:
        raise ValueError(f"{word!r} in the line {line.strip()[:80]!r} is no vertex. Export it again.") from None
    if index == 0 or index < -num_vertices:
        raise ValueError(
            f"the line {line.strip()[:80]!r} names the vertex {index} after {num_vertices} vertices, but they count "
            "from 1, or back from -1. Export it again."
        )
    return index - 1 if index > 0 else num_vertices + index
