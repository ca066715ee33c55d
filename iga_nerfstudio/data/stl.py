"""STL files, binary and in words."""

from __future__ import annotations

import logging
import re

import numpy as np

from iga_nerfstudio.data.files import as_text, as_words
from iga_nerfstudio.data.polygons import PolygonMesh

logger = logging.getLogger("iga_nerfstudio")

_HEADER = 84
_TRIANGLE = np.dtype([("normal", "<f4", 3), ("vertices", "<f4", (3, 3)), ("attribute", "<u2")])
# Counts left by programs that write a stream and do not come back to its beginning.
_STREAMED = (0, 2**32 - 1)

# Names of solids may hold any word, and go as far as their line or the first facet.
_NAMES = re.compile(r"^[ \t]*(end[ \t]*)?solid\b.*?(?=\bfacet\b|$)", re.MULTILINE | re.IGNORECASE)
_WORDS = re.compile(r"\b(?:(vertex)\s+(\S+)\s+(\S+)\s+(\S+)|(endloop)\b)", re.IGNORECASE)


def read_stl(content: bytes) -> PolygonMesh:
    """Read the facets of all solids together.

    Read here because trimesh takes a binary file for words where its count of triangles is not that of its size, stops
    at words it does not know, and loses a last solid without its end.

    Args:
        content: The file.

    Returns:
        The facets, with vertices of their own. Those of a binary file whose count a stream left open are as many as it
        holds, and what follows the last one is left out if it is empty or less than a triangle; both are logged.

    Raises:
        ValueError: If the file is cut short, or if a number cannot be read.
    """
    is_binary = len(content) >= _HEADER and len(content) == _HEADER + _count(content) * _TRIANGLE.itemsize
    if not is_binary and _is_text(content):
        return _read_words(as_words(content))
    return _read_binary(content)


def _count(content: bytes) -> int:
    return int.from_bytes(content[_HEADER - 4 : _HEADER], "little")


def _is_text(content: bytes) -> bool:
    start = as_text(content[:2048])
    return "\0" not in start and re.search(r"\b(solid|facet)\b", start, re.IGNORECASE) is not None


def _read_binary(content: bytes) -> PolygonMesh:
    if len(content) < _HEADER:
        raise ValueError(f"it is cut short: a binary STL has {_HEADER} bytes before its triangles. Copy it again.")
    count, size = _count(content), _TRIANGLE.itemsize
    held, left = divmod(len(content) - _HEADER, size)
    if count in _STREAMED and held and not left:
        logger.warning("The STL file says that it has %d triangles, as many as it holds are read: %d.", count, held)
        count = held
    if count > held:
        raise ValueError(f"it is cut short: it says {count} triangles, but holds {held}. Copy or download it again.")
    behind = content[_HEADER + count * size :]
    if len(behind) >= size and behind.strip(b"\0"):
        raise ValueError(
            f"it says {count} triangles, but goes on for {len(behind)} bytes, room for {len(behind) // size} more. "
            "Export it again."
        )
    if behind:
        logger.warning("The %d bytes behind the last triangle of the STL file are left out.", len(behind))
    triangles = np.frombuffer(content, _TRIANGLE, count, _HEADER)["vertices"]
    return PolygonMesh.of_triangles(triangles.reshape(-1, 3), np.arange(3 * count).reshape(-1, 3))


def _read_words(text: str) -> PolygonMesh:
    if not re.search(r"end\s*solid", text[text.lower().rfind("endfacet") + 1 :], re.IGNORECASE):
        raise ValueError("it is cut short: no 'endsolid' follows its last facet. Copy or download it again.")
    text = _NAMES.sub("", text)
    numbers: list[tuple[str, str, str]] = []
    ends = []
    for vertex, x, y, z, _ in _WORDS.findall(text):
        if vertex:
            numbers.append((x, y, z))
        else:
            ends.append(len(numbers))
    try:
        vertices = np.array([[float(word) for word in row] for row in numbers]).reshape(-1, 3)
    except ValueError as error:
        raise ValueError(
            f"a vertex has no three numbers ({error}). Write decimal points for commas, or export it again."
        ) from None
    num_facets = len(re.findall(r"\bfacet\b", text, re.IGNORECASE))
    if len(ends) != num_facets or (ends and ends[-1] != len(numbers)):
        raise ValueError(
            f"it is damaged: of its {num_facets} facets {len(ends)} have an end ('endloop'). Export it again."
        )
    return PolygonMesh(vertices, np.arange(len(vertices)), np.diff(ends, prepend=0).astype(np.int64))
