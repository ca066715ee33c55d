"""PLY files: what they hold of polygons."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field

import numpy as np
import trimesh

from iga_nerfstudio.data.polygons import PolygonMesh

_TYPES = {
    name: dtype
    for dtype, names in {
        "i1": "char int8",
        "u1": "uchar uint8",
        "i2": "short int16",
        "u2": "ushort uint16",
        "i4": "int int32",
        "u4": "uint uint32",
        "i8": "int64",
        "u8": "uint64",
        "f4": "float float32",
        "f8": "double float64",
    }.items()
    for name in names.split()
}
_CODES = dict(zip(["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"], "bBhHiIqQfd", strict=True))
_ORDERS = {"ascii": "<", "binary_little_endian": "<", "binary_big_endian": ">"}
# Elements that add nothing to a surface.
_NO_SURFACE = {"vertex", "edge", "material", "camera"}


@dataclass(frozen=True)
class _Property:
    name: str
    dtype: np.dtype
    count_dtype: np.dtype | None
    """Type of the length in front of each list; None for a single number."""
    count_code: str
    """The same for :mod:`struct`."""


@dataclass(frozen=True)
class _Element:
    name: str
    count: int
    properties: list[_Property] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class _Column:
    """A property of all rows: the numbers, one after the other, and how many each row has."""

    values: np.ndarray
    sizes: np.ndarray


_Table = dict[str, _Column]


def read_ply(content: bytes) -> PolygonMesh:
    """Read vertices, faces and strips of triangles.

    Read here because trimesh takes all binary faces to have as many corners as the first, and knows no strips. The one
    library that reads such files, plyfile, has a licence that this project cannot take on.

    Args:
        content: The file, in words or binary.

    Returns:
        The polygons.

    Raises:
        ValueError: If the file is cut short, goes on behind its last row, or has a surface of a kind that is not read.
    """
    elements, body, in_words = _header(content)
    if in_words:
        body = _as_doubles(body)
    tables: dict[str, _Table] = {}
    position = 0
    for element in elements:
        tables[element.name], position = _read_rows(element, body, position)
    if body[position:].strip(b"\0 \t\r\n"):
        raise ValueError("it goes on behind the last row that its header names. Export it again.")
    vertices = _vertices(tables.get("vertex", {}))
    corners, sizes = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    if tables.get("face"):
        faces = _index_lists(tables["face"], "face")
        corners.append(faces.values.astype(np.int64))
        sizes.append(faces.sizes)
    if tables.get("tristrips"):
        triangles = _strips(_index_lists(tables["tristrips"], "tristrips"))
        corners.append(triangles.ravel())
        sizes.append(np.full(len(triangles), 3))
    others = [e.name for e in elements if e.count and e.name not in _NO_SURFACE | {"face", "tristrips"}]
    if not sum(map(len, sizes)) and others:
        raise ValueError(f"it has no faces, but {', '.join(others)}, which are not read. Export faces.")
    return PolygonMesh(vertices, np.concatenate(corners), np.concatenate(sizes))


def _header(content: bytes) -> tuple[list[_Element], bytes, bool]:
    """Elements, what follows the header, and whether that is in words."""
    end = re.search(rb"[\r\n]end_header[ \t]*(\r\n|\n|\r)", content)
    if not content.startswith(b"ply") or end is None:
        raise ValueError("it does not begin with 'ply' and a header up to 'end_header'. Download or export it again.")
    header = content[: end.start()].decode("latin-1")
    # Where lines end in a carriage return alone, a line feed behind the last one belongs to the numbers.
    start = end.end() if "\n" in header else end.start(1) + 1
    layout, elements = "", []
    for line in re.split(r"[\r\n]+", header)[1:]:
        words = line.split()
        try:
            if words[:1] == ["format"]:
                layout = words[1]
                if layout not in _ORDERS:
                    raise ValueError
            elif words[:1] == ["element"]:
                elements.append(_Element(words[1].lower(), _count(words[2])))
            elif words[:1] == ["property"]:
                elements[-1].properties.append(_property(words, layout))
        except (IndexError, KeyError, ValueError):
            raise ValueError(f"the line {line[:80]!r} of its header cannot be understood. Export it again.") from None
    return elements, content[start:], layout == "ascii"


def _count(word: str) -> int:
    count = int(word)
    if count < 0:
        raise ValueError
    return count


def _property(words: list[str], layout: str) -> _Property:
    is_list = words[1] == "list"
    types = words[2:4] if is_list else words[1:2]
    dtypes = [np.dtype("<f8" if layout == "ascii" else _ORDERS[layout] + _TYPES[name]) for name in types]
    # The letters of struct with the sizes of NumPy's, whose own depend on the machine.
    code = dtypes[0].str[0].replace("|", "<") + _CODES[dtypes[0].str[1:]]
    return _Property(words[len(types) + is_list + 1].lower(), dtypes[-1], dtypes[0] if is_list else None, code)


def _as_doubles(body: bytes) -> bytes:
    """Numbers in words as doubles, so that they are read as binary ones are."""
    try:
        return np.array(body.split(), np.float64).tobytes()
    except ValueError as error:
        reason = "Write decimal points for its commas." if b"," in body else "Export it again."
        raise ValueError(f"not all of its numbers can be read ({error}). {reason}") from None


def _read_rows(element: _Element, body: bytes, position: int) -> tuple[_Table, int]:
    """The rows of an element, and where the next one begins."""
    if element.count == 0 or not element.properties:
        return {}, position
    try:
        return _read_even_rows(element, body, position) or _read_uneven_rows(element, body, position)
    except struct.error:
        raise ValueError(
            f"it is cut short: it ends before the last of its {element.count} rows of {element.name!r}. "
            "Copy or download it again."
        ) from None


def _read_even_rows(element: _Element, body: bytes, position: int) -> tuple[_Table, int] | None:
    """The rows at once, if all have lists as long as those of the first one."""
    sizes = _first_sizes(element, body, position)
    fields = [part for prop, size in zip(element.properties, sizes, strict=True) for part in _fields(prop, size)]
    row = np.dtype(fields)
    stop = position + element.count * row.itemsize
    if stop > len(body):
        return None
    rows = np.frombuffer(body, row, element.count, position)
    table = {}
    for prop, size in zip(element.properties, sizes, strict=True):
        if prop.count_dtype is not None and (rows[f"{prop.name} size"] != size).any():
            return None
        table[prop.name] = _Column(rows[prop.name].ravel(), np.full(element.count, size))
    return table, stop


def _fields(prop: _Property, size: int) -> list[tuple]:
    if prop.count_dtype is None:
        return [(prop.name, prop.dtype)]
    return [(f"{prop.name} size", prop.count_dtype), (prop.name, prop.dtype, (size,))]


def _first_sizes(element: _Element, body: bytes, position: int) -> list[int]:
    """How many numbers each property of the first row has."""
    sizes = []
    for prop in element.properties:
        size, position = _size(prop, body, position)
        sizes.append(size)
        position += size * prop.dtype.itemsize
    return sizes


def _size(prop: _Property, body: bytes, position: int) -> tuple[int, int]:
    """How many numbers a property has in the row there, and where they begin."""
    if prop.count_dtype is None:
        return 1, position
    size = int(struct.unpack_from(prop.count_code, body, position)[0])
    start = position + prop.count_dtype.itemsize
    if not 0 <= size <= (len(body) - start) // prop.dtype.itemsize:
        raise struct.error
    return size, start


def _read_uneven_rows(element: _Element, body: bytes, position: int) -> tuple[_Table, int]:
    """The same for lists of different lengths, row by row."""
    starts: list[list[int]] = [[] for _ in element.properties]
    sizes: list[list[int]] = [[] for _ in element.properties]
    for _ in range(element.count):
        for column, prop in enumerate(element.properties):
            size, position = _size(prop, body, position)
            starts[column].append(position)
            sizes[column].append(size)
            position += size * prop.dtype.itemsize
    if position > len(body):
        raise struct.error
    table = {}
    for prop, first, counts in zip(element.properties, map(np.array, starts), map(np.array, sizes), strict=True):
        lengths = counts * prop.dtype.itemsize
        # Byte by byte, because numbers of uneven rows lie at any place.
        offsets = np.repeat(first - (np.cumsum(lengths) - lengths), lengths) + np.arange(lengths.sum())
        table[prop.name] = _Column(np.frombuffer(body, np.uint8)[offsets].view(prop.dtype), counts)
    return table, position


def _vertices(table: _Table) -> np.ndarray:
    if not table:
        return np.empty((0, 3))
    if not {"x", "y", "z"} <= table.keys():
        raise ValueError(f"its vertices have {', '.join(table)}, but not x, y and z. Export it again.")
    return np.stack([table[axis].values.astype(np.float64) for axis in "xyz"], axis=1)


def _index_lists(table: _Table, element: str) -> _Column:
    for name in ("vertex_indices", "vertex_index"):
        if name in table:
            return table[name]
    if len(table) == 1:
        return next(iter(table.values()))
    raise ValueError(f"the rows of {element!r} have {', '.join(table)}, but no 'vertex_indices'. Export it again.")


def _strips(lists: _Column) -> np.ndarray:
    """Triangles ``(F, 3)`` of strips, which end with their list or at an index of -1."""
    ends = np.zeros(len(lists.values) + 1, bool)
    ends[np.cumsum(lists.sizes)] = True
    strips = []
    for strip in np.split(lists.values.astype(np.int64), np.flatnonzero(ends[:-1])):
        parts = np.split(strip, np.flatnonzero(strip == -1))
        strips += [part[part != -1] for part in parts]
    strips = [strip for strip in strips if len(strip) >= 3]
    return trimesh.util.triangle_strips_to_faces(strips) if strips else np.empty((0, 3), np.int64)
