"""OBJ files: what they hold of polygons."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from iga_nerfstudio.data.files import as_words
from iga_nerfstudio.data.polygons import PolygonMesh

_VERTEX, _FACES = "v", ("f", "fo")
_CONTINUED = [[keyword] for keyword in (_VERTEX, *_FACES)]
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
        ValueError: If a number cannot be read, if a stretch of the file is nothing but zeros, or if a part of the
            surface would be left out.
    """
    vertices: list[list[float]] = []
    corners: list[int] = []
    sizes: list[int] = []
    for line in _lines(as_words(content)):
        words = line.split()
        keyword = words[0].lower() if words else ""
        if keyword == _VERTEX:
            vertices.append(_position(line, words))
        elif keyword in _FACES:
            face = [_index(line, word, len(vertices)) for word in words[1:]]
            corners += face
            sizes.append(len(face))
        elif keyword in _NOT_READ:
            raise ValueError(f"it has {_NOT_READ[keyword]}, which are not read. Export its surface as polygons.")
    return PolygonMesh(np.array(vertices, np.float64).reshape(-1, 3), np.array(corners, np.int64), np.array(sizes, int))


def _lines(text: str) -> Iterator[str]:
    """Lines without comments. Those of vertices and faces go on in the next one behind a backslash.

    Comments and names of files may end in one too, as folders on Windows do, and what follows them is read.
    """
    lines = iter(text.split("\n"))
    for line in lines:
        line = line.partition("#")[0].rstrip()
        while line.endswith("\\") and line.rstrip("\\").lower().split()[:1] in _CONTINUED:
            line = f"{line[:-1]} {next(lines, '').partition('#')[0].rstrip()}"
        yield line


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
    if index == 0 or not -num_vertices <= index < 1 << 63:
        raise ValueError(
            f"the line {line.strip()[:80]!r} names the vertex {index} after {num_vertices} vertices, but they count "
            "from 1, or back from -1. Export it again."
        )
    return index - 1 if index > 0 else num_vertices + index
