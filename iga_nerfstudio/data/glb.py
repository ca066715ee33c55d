"""GLB files: made ready for trimesh, or refused where it would leave something out."""

from __future__ import annotations

import io
import json
import re
import struct
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import trimesh

from iga_nerfstudio.data.polygons import PolygonMesh

# Extensions that do not touch the surface, and the one for integers as positions, which trimesh and this module read.
_HARMLESS = re.compile(
    r"KHR_(materials|texture|lights|xmp)_\w+|EXT_(texture|lights)_\w+|MSFT_texture_dds|KHR_mesh_quantization"
)
_COMPRESSION = re.compile(r"\w+_(draco_mesh|meshopt)_compression")
_DTYPES = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_WIDTHS = {"SCALAR": 1, "VEC3": 3}
_FLOAT, _UNSIGNED_INT = 5126, 5125
_TRIANGLE_FAN = 6


def read_glb(content: bytes, path: Path) -> PolygonMesh:
    """Read the triangles of all parts of the scene, as they are placed there.

    Args:
        content: The file.
        path: Where it is, for buffers of its own that it names.

    Returns:
        The triangles.

    Raises:
        ValueError: If the file is damaged, or has a part or a placement that is not read.
    """
    try:
        header, binary = _chunks(content)
        _refuse_what_is_not_read(header)
        _name_other_files(header, path)
        mended = _mended(header, binary)
        mesh = trimesh.load_mesh(
            io.BytesIO(mended),
            file_type="glb",
            resolver=trimesh.resolvers.FilePathResolver(str(path)),
            skip_materials=True,
            # Unprocessed, because processing drops vertices that are not finite without a word.
            process=False,
        )
    except _NotReadError:
        raise
    except Exception as error:  # trimesh and json raise whatever a damaged file makes them stumble over
        raise ValueError(
            f"it is damaged ({str(error) or type(error).__name__}). Download or export it again."
        ) from error
    return PolygonMesh.of_triangles(mesh.vertices, mesh.faces)


class _NotReadError(ValueError):
    """A sound file has something that is not read."""


def _chunks(content: bytes) -> tuple[dict[str, Any], bytes]:
    """The JSON header and the binary part."""
    magic, version, length, size, kind = struct.unpack_from("<4sIII4s", content)
    if (magic, kind) != (b"glTF", b"JSON"):
        raise ValueError("it does not begin with 'glTF' and a header")
    if version != 2:
        raise _NotReadError(f"it is glTF {version}, and only 2 is read. Export it as glTF 2.")
    if length > len(content):
        raise ValueError(f"it is cut short: it should have {length} bytes, but has {len(content)}")
    header = json.loads(content[20 : 20 + size])
    rest = content[20 + size :]
    if len(rest) < 8 or rest[4:8] != b"BIN\0":
        return header, b""
    return header, rest[8 : 8 + struct.unpack_from("<I", rest)[0]]


def _refuse_what_is_not_read(header: dict[str, Any]) -> None:
    for name in header.get("extensionsRequired", []):
        if _COMPRESSION.fullmatch(name):
            raise _NotReadError(f"it is compressed with {name}, which is not read. Export it without compression.")
        if not _HARMLESS.fullmatch(name):
            raise _NotReadError(f"it requires the extension {name}, which is not read. Export it without.")
    if not header.get("scenes"):
        raise _NotReadError("it has no scene, so that nothing says which parts are meant. Export it with one.")
    for node in header.get("nodes", []):
        if "EXT_mesh_gpu_instancing" in node.get("extensions", {}):
            raise _NotReadError("it repeats parts by EXT_mesh_gpu_instancing, which is not read. Export it without.")
        if "skin" in node and "mesh" in node:
            raise _NotReadError("it is posed by a skeleton (skin), which is not read. Apply the pose, export without.")
    above = Counter(child for node in header.get("nodes", []) for child in node.get("children", []))
    above.update({root for scene in header["scenes"] for root in scene.get("nodes", [])})
    if any(number > 1 for number in above.values()):
        raise _NotReadError("a part of it hangs in several places, of which one would be read. Export it as a tree.")
    shapes = [*header.get("meshes", []), *header.get("nodes", [])]
    if any(np.any(shape.get("weights", [])) for shape in shapes):
        raise _NotReadError("it is deformed by morph targets, which are not read. Apply them, and export without.")
    for primitive in _primitives(header):
        if primitive.get("mode") == _TRIANGLE_FAN:
            raise _NotReadError("it has triangle fans (mode 6), which are not read. Export triangles.")
        for index in _surface_accessors(primitive):
            if not {"bufferView", "sparse"} & header["accessors"][index].keys():
                names = ", ".join(primitive.get("extensions", {})) or "nothing that is known"
                raise _NotReadError(f"a part of it has no numbers of its own, but {names}. Export it without.")


def _name_other_files(header: dict[str, Any], path: Path) -> None:
    """Put the names of files in the place of their addresses, which trimesh takes for names."""
    for buffer in header.get("buffers", []):
        if not buffer.get("uri", "data:").startswith("data:"):
            buffer["uri"] = unquote(buffer["uri"])
            if not (path.parent / buffer["uri"]).is_file():
                raise _NotReadError(f"its numbers are in {buffer['uri']}, which is not there. Put it beside this file.")


def _primitives(header: dict[str, Any]) -> list[dict[str, Any]]:
    return [primitive for mesh in header.get("meshes", []) for primitive in mesh["primitives"]]


def _surface_accessors(primitive: dict[str, Any]) -> list[int]:
    """Indices of the accessors of positions and, if it has them, of faces."""
    return [primitive["attributes"]["POSITION"], *([primitive["indices"]] if "indices" in primitive else [])]


def _mended(header: dict[str, Any], binary: bytes) -> bytes:
    """The file with plain numbers in place of normalised and sparse ones, which trimesh takes for what is stored."""
    for node in header.get("nodes", []):
        node.pop("camera", None)  # trimesh leaves out what else such a node holds
    for index in sorted({i for primitive in _primitives(header) for i in _surface_accessors(primitive)}):
        accessor = header["accessors"][index]
        if accessor.get("normalized") or "sparse" in accessor:
            is_index = accessor["type"] == "SCALAR"
            values = _values(header, binary, accessor).astype("<u4" if is_index else "<f4")
            binary += b"\0" * (-len(binary) % 4)
            header["bufferViews"].append({"buffer": 0, "byteOffset": len(binary), "byteLength": values.nbytes})
            header["accessors"][index] = {
                "bufferView": len(header["bufferViews"]) - 1,
                "componentType": _UNSIGNED_INT if is_index else _FLOAT,
                "count": len(values),
                "type": accessor["type"],
            }
            binary += values.tobytes()
            header["buffers"][0]["byteLength"] = len(binary)
    text = json.dumps(header).encode()
    chunks = [(b"JSON", text + b" " * (-len(text) % 4)), (b"BIN\0", binary + b"\0" * (-len(binary) % 4))]
    body = b"".join(struct.pack("<I4s", len(data), kind) + data for kind, data in chunks if data)
    return struct.pack("<4sII", b"glTF", 2, 12 + len(body)) + body


def _values(header: dict[str, Any], binary: bytes, accessor: dict[str, Any]) -> np.ndarray:
    """What an accessor stands for, ``(count, width)``."""
    count, width = accessor["count"], _WIDTHS[accessor["type"]]
    dtype = np.dtype(_DTYPES[accessor["componentType"]])
    values = np.zeros((count, width), dtype)
    if "bufferView" in accessor:
        values = _rows(header, binary, accessor, dtype, count, width).copy()
    if "sparse" in accessor:
        sparse = accessor["sparse"]
        kind = np.dtype(_DTYPES[sparse["indices"]["componentType"]])
        places = _rows(header, binary, sparse["indices"], kind, sparse["count"], 1)[:, 0]
        values[places] = _rows(header, binary, sparse["values"], dtype, sparse["count"], width)
    if accessor.get("normalized") and dtype.kind != "f":
        # Both of the lowest signed integers stand for -1.
        return np.maximum(values / np.iinfo(dtype).max, -1.0)
    return values


def _rows(
    header: dict[str, Any], binary: bytes, place: dict[str, Any], dtype: np.dtype, count: int, width: int
) -> np.ndarray:
    view = header["bufferViews"][place["bufferView"]]
    if view.get("buffer") != 0 or "uri" in header["buffers"][0]:
        raise _NotReadError("its normalised or sparse numbers are in another file. Export it as one file.")
    offset = view.get("byteOffset", 0) + place.get("byteOffset", 0)
    stride = view.get("byteStride", width * dtype.itemsize)
    return np.ndarray((count, width), dtype, binary, offset, (stride, dtype.itemsize))
