"""Features of GLB files: each is read as what it stands for, or refused by its name."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from numpy.testing import assert_allclose

from iga_nerfstudio.data.meshes import read_mesh

BALL = trimesh.creation.icosphere(subdivisions=1)
COMPONENTS = {"<i1": 5120, "<u1": 5121, "<i2": 5122, "<u2": 5123, "<u4": 5125, "<f4": 5126}


class Glb:
    """A GLB file under construction: two balls, the second of radius 1 at x = 3, as plain numbers."""

    def __init__(self) -> None:
        self.binary = b""
        self.header: dict[str, Any] = {
            "asset": {"version": "2.0"},
            "scene": 0,
            "scenes": [{"nodes": [0, 1]}],
            "nodes": [{"mesh": 0}, {"mesh": 1, "translation": [3, 0, 0]}],
            "meshes": [],
            "accessors": [],
            "bufferViews": [],
        }
        for _ in range(2):
            primitive = {
                "attributes": {"POSITION": self.accessor(BALL.vertices.astype("<f4"))},
                "indices": self.accessor(BALL.faces.reshape(-1, 1).astype("<u2")),
            }
            self.header["meshes"].append({"primitives": [primitive]})

    @property
    def primitive(self) -> dict[str, Any]:
        """That of the first ball."""
        return self.header["meshes"][0]["primitives"][0]

    def view(self, values: np.ndarray, **more: int) -> int:
        """Store numbers, and say where."""
        self.binary += b"\0" * (-len(self.binary) % 4)
        place = {"buffer": 0, "byteOffset": len(self.binary), "byteLength": values.nbytes}
        self.header["bufferViews"].append(place | more)
        self.binary += values.tobytes()
        return len(self.header["bufferViews"]) - 1

    def accessor(self, values: np.ndarray, **more: Any) -> int:
        entry = {
            "bufferView": self.view(values),
            "componentType": COMPONENTS[values.dtype.str.replace("|", "<")],
            "count": len(values),
            "type": "SCALAR" if values.shape[1] == 1 else "VEC3",
        }
        self.header["accessors"].append(entry | more)
        return len(self.header["accessors"]) - 1

    def written(self, path: Path) -> Path:
        self.header["buffers"] = [{"byteLength": len(self.binary)}]
        text = json.dumps(self.header).encode()
        text += b" " * (-len(text) % 4)
        binary = self.binary + b"\0" * (-len(self.binary) % 4)
        head = struct.pack("<4sIII4s", b"glTF", 2, 28 + len(text) + len(binary), len(text), b"JSON")
        path.write_bytes(head + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary)
        return path


def assert_is_two_balls(path: Path, rel: float = 1e-5) -> None:
    mesh = read_mesh(path)
    assert len(mesh.faces) == 160
    assert_allclose(mesh.bounds, [[-1, -1, -1], [4, 1, 1]], atol=rel)
    assert mesh.volume == pytest.approx(2 * BALL.volume, rel=rel)


class TestGlb:
    @pytest.mark.parametrize("kind", ["<i1", "<i2"])
    def test_normalised_positions(self, tmp_path: Path, kind: str) -> None:
        glb, scale = Glb(), np.iinfo(kind).max
        # With a fourth number in each row, as rows begin at multiples of four bytes.
        rows = np.hstack([np.rint(BALL.vertices * scale), np.zeros((42, 1))]).astype(kind)
        rows[rows == -scale] = -scale - 1
        glb.header["bufferViews"][0] = glb.header["bufferViews"][glb.view(rows, byteStride=rows.strides[0])]
        glb.header["accessors"][0] |= {"componentType": COMPONENTS[kind], "normalized": True}
        glb.header["extensionsRequired"] = ["KHR_mesh_quantization"]
        assert_is_two_balls(glb.written(tmp_path / "two.glb"), rel=0.02 if kind == "<i1" else 1e-4)

    @pytest.mark.parametrize("kind", ["<u1", "<u2"])
    def test_quantised_positions_placed_by_their_node(self, tmp_path: Path, kind: str) -> None:
        for normalised in (False, True):
            glb, largest = Glb(), np.iinfo(kind).max
            levels = np.rint((BALL.vertices + 1) / 2 * largest).astype(kind)
            glb.primitive["attributes"]["POSITION"] = glb.accessor(levels, normalized=normalised)
            glb.header["nodes"][0] |= {"scale": [2 if normalised else 2 / largest] * 3, "translation": [-1, -1, -1]}
            assert_is_two_balls(glb.written(tmp_path / "two.glb"), rel=0.02)

    @pytest.mark.parametrize("has_base", [False, True])
    def test_sparse_positions(self, tmp_path: Path, has_base: bool) -> None:
        glb = Glb()
        changed = np.arange(3, 9) if has_base else np.arange(42)
        base = BALL.vertices.astype("<f4")
        base[changed] = 77
        index = glb.accessor(base)
        glb.header["accessors"][index]["sparse"] = {
            "count": len(changed),
            "indices": {"bufferView": glb.view(changed.astype("<u1")), "componentType": 5121},
            "values": {"bufferView": glb.view(BALL.vertices[changed].astype("<f4"))},
        }
        if not has_base:
            del glb.header["accessors"][index]["bufferView"]
        glb.primitive["attributes"]["POSITION"] = index
        assert_is_two_balls(glb.written(tmp_path / "two.glb"))

    def test_sparse_indices(self, tmp_path: Path) -> None:
        glb = Glb()
        faces = BALL.faces.reshape(-1, 1).astype("<u2")
        wrong = faces.copy()
        wrong[7:9] = 0
        glb.primitive["indices"] = index = glb.accessor(wrong)
        glb.header["accessors"][index]["sparse"] = {
            "count": 2,
            "indices": {"bufferView": glb.view(np.array([7, 8], "<u2")), "componentType": 5123},
            "values": {"bufferView": glb.view(faces[7:9])},
        }
        assert_is_two_balls(glb.written(tmp_path / "two.glb"))

    def test_parts_beside_a_camera(self, tmp_path: Path) -> None:
        glb = Glb()
        glb.header["cameras"] = [{"type": "perspective", "perspective": {"yfov": 1, "znear": 1, "aspectRatio": 1}}]
        glb.header["nodes"][1]["camera"] = 0
        assert_is_two_balls(glb.written(tmp_path / "two.glb"))

    def test_strips(self, tmp_path: Path) -> None:
        glb = Glb()
        square = np.array([[2, 0, 0], [4, 0, 0], [2, 2, 0], [4, 2, 0]], "<f4")
        strip = {"attributes": {"POSITION": glb.accessor(square)}, "mode": 5}
        glb.header["meshes"][0]["primitives"] = [strip]
        glb.header["scenes"][0]["nodes"] = [0]
        mesh = read_mesh(glb.written(tmp_path / "square.glb"))
        assert mesh.area == pytest.approx(4)
        assert_allclose(mesh.face_normals, [[0, 0, 1]] * 2)

    @pytest.mark.parametrize("name", ["KHR_materials_unlit", "KHR_texture_transform", "EXT_texture_webp"])
    def test_extensions_that_leave_the_surface_alone(self, tmp_path: Path, name: str) -> None:
        glb = Glb()
        glb.header["extensionsRequired"] = [name]
        assert_is_two_balls(glb.written(tmp_path / "two.glb"))

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("KHR_draco_mesh_compression", "is compressed with KHR_draco_mesh_compression.* without compression"),
            ("EXT_meshopt_compression", "is compressed with EXT_meshopt_compression"),
            ("KHR_meshopt_compression", "is compressed with KHR_meshopt_compression"),
            ("CESIUM_RTC", "requires the extension CESIUM_RTC, which is not read"),
        ],
    )
    def test_extensions_that_are_required(self, tmp_path: Path, name: str, message: str) -> None:
        glb = Glb()
        glb.header["extensionsRequired"] = ["KHR_mesh_quantization", name]
        with pytest.raises(ValueError, match=rf"Cannot read .*two\.glb as a mesh: it {message}"):
            read_mesh(glb.written(tmp_path / "two.glb"))

    def test_compression_that_is_not_declared(self, tmp_path: Path) -> None:
        glb = Glb()
        del glb.header["accessors"][0]["bufferView"]
        glb.primitive["extensions"] = {"KHR_draco_mesh_compression": {"bufferView": 0, "attributes": {"POSITION": 0}}}
        with pytest.raises(ValueError, match="no numbers of its own, but KHR_draco_mesh_compression"):
            read_mesh(glb.written(tmp_path / "two.glb"))

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda glb: glb.primitive.update(mode=6), r"triangle fans \(mode 6\)"),
            (lambda glb: glb.header["nodes"][0].update(skin=0), r"posed by a skeleton \(skin\)"),
            (lambda glb: glb.header["meshes"][0].update(weights=[0, 0.5]), "morph targets"),
            (
                lambda glb: glb.header["nodes"][0].update(extensions={"EXT_mesh_gpu_instancing": {}}),
                "repeats parts by EXT_mesh_gpu_instancing",
            ),
            (lambda glb: glb.header.pop("scenes"), "it has no scene"),
            (lambda glb: glb.header["bufferViews"][0].update(byteLength=10**6), "is damaged"),
        ],
        ids=["fans", "skin", "morph", "instances", "scene", "damaged"],
    )
    def test_what_would_be_lost_or_displaced(self, tmp_path: Path, change: Any, message: str) -> None:
        glb = Glb()
        change(glb)
        with pytest.raises(ValueError, match=rf"Cannot read .*two\.glb as a mesh: .*{message}"):
            read_mesh(glb.written(tmp_path / "two.glb"))

    def test_of_version_1(self, tmp_path: Path) -> None:
        path = Glb().written(tmp_path / "two.glb")
        path.write_bytes(path.read_bytes().replace(b"glTF\2", b"glTF\1"))
        with pytest.raises(ValueError, match="it is glTF 1, and only 2 is read"):
            read_mesh(path)

    @pytest.mark.parametrize(
        "change",
        [
            {
                "nodes": [{"mesh": 0}, {"mesh": 1}, {"children": [0]}, {"children": [0]}],
                "scenes": [{"nodes": [1, 2, 3]}],
            },
            {"nodes": [{"mesh": 0}, {"mesh": 1, "children": [0]}]},
        ],
    )
    def test_a_part_in_several_places(self, tmp_path: Path, change: dict[str, Any]) -> None:
        glb = Glb()
        glb.header |= change
        with pytest.raises(ValueError, match="a part of it hangs in several places"):
            read_mesh(glb.written(tmp_path / "two.glb"))

    def test_scenes_may_share_a_part(self, tmp_path: Path) -> None:
        glb = Glb()
        glb.header["scenes"].append({"nodes": [0]})
        assert_is_two_balls(glb.written(tmp_path / "two.glb"))

    def test_numbers_in_another_file(self, tmp_path: Path) -> None:
        glb = Glb()
        glb.header["buffers"] = [{"byteLength": len(glb.binary), "uri": "two%20balls.bin"}]
        text = json.dumps(glb.header).encode()
        text += b" " * (-len(text) % 4)
        content = struct.pack("<4sIII4s", b"glTF", 2, 20 + len(text), len(text), b"JSON") + text
        (tmp_path / "two.glb").write_bytes(content)
        with pytest.raises(ValueError, match=r"its numbers are in two balls\.bin, which is not there"):
            read_mesh(tmp_path / "two.glb")
        (tmp_path / "two balls.bin").write_bytes(glb.binary)
        assert_is_two_balls(tmp_path / "two.glb")
