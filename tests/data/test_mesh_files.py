"""Dialects and features of mesh files: each is read as what it stands for, or refused by its name."""

from __future__ import annotations

import json
import logging
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from numpy.testing import assert_allclose

from iga_nerfstudio.data.meshes import read_mesh

# A prism over an L: volume 3, area 14. Its two bases are concave hexagons, its sides are quads.
CORNERS = np.array([[0, 0], [2, 0], [2, 1], [1, 1], [1, 2], [0, 2]], float)
POINTS = np.array([[x, y, z] for z in (0, 1) for x, y in CORNERS])
# The bases begin at a corner from which a fan folds over.
BASES = [(1, 0, 5, 4, 3, 2), (8, 9, 10, 11, 6, 7)]
POLYGONS = [*BASES, *[(i, (i + 1) % 6, (i + 1) % 6 + 6, i + 6) for i in range(6)]]
BALL = trimesh.creation.icosphere(subdivisions=1)


def assert_is_prism(path: Path) -> None:
    mesh = read_mesh(path)
    assert mesh.volume == pytest.approx(3)
    assert mesh.area == pytest.approx(14)
    assert_allclose(mesh.bounds, [[0, 0, 0], [2, 2, 1]])
    assert len(mesh.vertices) == 12


def obj_of_prism() -> str:
    lines = [f"v {x:g} {y:g} {z:g}" for x, y, z in POINTS]
    lines += ["f " + " ".join(str(i + 1) for i in polygon) for polygon in POLYGONS]
    return "\n".join(lines) + "\n"


def with_normals(text: str) -> str:
    lines = [
        " ".join(["f", *(f"{word}//1" for word in line.split()[1:])]) if line[0] == "f" else line
        for line in text.splitlines()
    ]
    return "\n".join(["vn 0 0 1", *lines, ""])


PRISM = obj_of_prism()


class TestObj:
    @pytest.mark.parametrize(
        "text",
        [
            PRISM,
            PRISM.replace(" ", "\t"),
            PRISM.replace(" ", "  "),
            "  " + PRISM.replace("\n", "\n  "),
            "\ufeff" + PRISM,
            PRISM.replace("\n", "\r\n"),
            PRISM.replace("\n", "\r"),
            PRISM.replace("f 2 1 6", "f 2 1 \\\n6"),
            PRISM.replace("f 2 1 6", "f 2 1\\\r\n\t6"),
            with_normals(PRISM),
            PRISM.replace("f 2 1 6 5 4 3", "f 2 1 6 5 4 3 # base").replace("v 0 0 0\n", "v 0 0 0 # first\n"),
            PRISM.upper(),
            PRISM.replace("v 0 0 0\n", "v 0 0 0 0.5 0.5 0.5\n"),
            PRISM.replace("f 1", "usemtl paint\ng f\no v\nf 1"),
            PRISM + "f 1 2\nl 1 9\np 3\n",
            PRISM.rstrip(),
        ],
        ids=[
            *["plain", "tabs", "wide", "indented", "mark", "crlf", "cr", "continued", "continued-crlf", "normals"],
            *["comments", "capitals", "colour", "groups", "lines", "no-end"],
        ],
    )
    def test_dialects(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "prism.obj").write_bytes(text.encode())
        assert_is_prism(tmp_path / "prism.obj")

    def test_utf_16(self, tmp_path: Path) -> None:
        (tmp_path / "prism.obj").write_bytes(PRISM.encode("utf-16"))
        assert_is_prism(tmp_path / "prism.obj")

    def test_relative_indices_count_back_from_their_line(self, tmp_path: Path) -> None:
        lines = []
        for shift in (0, 3, 6):
            lines += [f"v {x + shift} {y} {z}" for x, y, z in POINTS]
            lines += ["f " + " ".join(str(i - 12) for i in polygon) for polygon in POLYGONS]
        (tmp_path / "three.obj").write_text("\n".join(lines))
        mesh = read_mesh(tmp_path / "three.obj")
        assert_allclose(mesh.bounds, [[0, 0, 0], [8, 2, 1]])
        assert mesh.volume == pytest.approx(9)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (PRISM.replace("v 2 0 0", "v 2,0 0,0 0,0"), r"'v 2,0 0,0 0,0' has no three numbers\. .* decimal points"),
            (PRISM.replace("v 2 0 0", "v 2 0"), r"'v 2 0' has no three numbers"),
            (PRISM.replace("f 2 1", "f 0 1"), "names the vertex 0 after 12 vertices"),
            (PRISM.replace("f 2 1", "f -13 1"), "names the vertex -13 after 12 vertices"),
            (PRISM.replace("f 2 1", "f x 1"), "'x' in the line .* is no vertex"),
            (PRISM + "surf 0 1 0 1 1 2 3\n", r"free-form surfaces \(surf\), which are not read"),
            (PRISM + "call other.obj\n", r"another file \(call\)"),
        ],
    )
    def test_refused(self, tmp_path: Path, text: str, message: str) -> None:
        (tmp_path / "prism.obj").write_text(text)
        with pytest.raises(ValueError, match=rf"Cannot read .*prism\.obj as a mesh: .*{message}"):
            read_mesh(tmp_path / "prism.obj")


def stl_of_words(name: str = "prism", mesh: trimesh.Trimesh = BALL) -> str:
    facets = [
        "facet normal 0 0 1\n outer loop\n"
        + "".join(f"  vertex {x!r} {y!r} {z!r}\n" for x, y, z in triangle)
        + " endloop\nendfacet\n"
        for triangle in mesh.triangles.tolist()
    ]
    return f"solid {name}\n{''.join(facets)}endsolid {name}\n"


BINARY = trimesh.exchange.stl.export_stl(BALL)
WORDS = stl_of_words()


def with_count(count: int) -> bytes:
    return BINARY[:80] + struct.pack("<I", count) + BINARY[84:]


class TestStl:
    @pytest.mark.parametrize(
        "content",
        [
            BINARY,
            b"solid as words begin, facet".ljust(80) + BINARY[80:],
            with_count(0),
            with_count(2**32 - 1),
            BINARY + b"\0" * 37,
            BINARY + b"\0" * 500,
            BINARY + b"made by hand",
            b"solid".ljust(80) + BINARY[80:] + b"\r\n",
            WORDS.encode(),
            WORDS.upper().encode(),
            WORDS.replace("\n", "\r\n").encode(),
            WORDS.replace("\n", "\r").encode(),
            WORDS.replace(" ", "\t").encode(),
            ("\ufeff" + WORDS).encode(),
            stl_of_words("vertex 1 2 3 of normal solid endloop").encode(),
            stl_of_words("").replace("\n", " ").encode(),
            WORDS.rstrip().encode(),
        ],
        ids=[
            *["binary", "solid", "count-0", "count-max", "padded", "padded-more", "signed", "solid-padded", "words"],
            *["capitals", "crlf", "cr", "tabs", "mark", "names", "one-line", "no-end"],
        ],
    )
    def test_dialects(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "ball.stl").write_bytes(content)
        mesh = read_mesh(tmp_path / "ball.stl")
        assert len(mesh.faces) == 80
        assert len(mesh.vertices) == 42
        assert mesh.volume == pytest.approx(BALL.volume, rel=1e-6)

    def test_several_solids(self, tmp_path: Path) -> None:
        other = BALL.copy()
        other.apply_translation([3, 0, 0])
        (tmp_path / "two.stl").write_text(WORDS.replace("endsolid prism", "") + stl_of_words("other", other))
        assert_allclose(read_mesh(tmp_path / "two.stl").extents, [5, 2, 2], atol=1e-6)

    def test_facets_of_more_corners(self, tmp_path: Path) -> None:
        facets = [
            "facet normal 0 0 0 outer loop "
            + " ".join(f"vertex {x} {y} {z}" for x, y, z in POINTS[list(polygon)])
            + " endloop endfacet"
            for polygon in POLYGONS
        ]
        (tmp_path / "prism.stl").write_text("\n".join(["solid", *facets, "endsolid"]))
        assert_is_prism(tmp_path / "prism.stl")

    @pytest.mark.parametrize("content", [BINARY + b"\0" * 37, with_count(0)])
    def test_what_is_guessed_is_logged(self, tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes) -> None:
        (tmp_path / "ball.stl").write_bytes(content)
        with caplog.at_level(logging.WARNING, "iga_nerfstudio"):
            read_mesh(tmp_path / "ball.stl")
        assert "37 bytes behind" in caplog.text or "as many as it holds are read: 80" in caplog.text

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (with_count(81), "cut short: it says 81 triangles, but holds 80"),
            (with_count(40), "says 40 triangles, but goes on for 2000 bytes, room for 40 more"),
            (BINARY[:60], "cut short"),
            (WORDS[:-20].encode(), "cut short: no 'endsolid'"),
            (WORDS.replace("endloop", "", 1).encode(), "of its 80 facets 79 have an end"),
            (WORDS.replace(".", ",").encode(), "no three numbers .* decimal points for commas"),
            (WORDS.replace("vertex 0.0", "vertex", 1).encode(), "no three numbers"),
        ],
    )
    def test_refused(self, tmp_path: Path, content: bytes, message: str) -> None:
        (tmp_path / "ball.stl").write_bytes(content)
        with pytest.raises(ValueError, match=rf"Cannot read .*ball\.stl as a mesh: .*{message}"):
            read_mesh(tmp_path / "ball.stl")


def ply_header(layout: str, points: int, more: str) -> str:
    axes = "".join(f"property double {axis}\n" for axis in "xyz")
    return f"ply\nformat {layout} 1.0\ncomment by hand\nelement vertex {points}\n{axes}{more}end_header\n"


def ply_in_words(polygons: list[tuple[int, ...]], name: str = "vertex_indices") -> str:
    faces = f"element face {len(polygons)}\nproperty list uchar int {name}\n"
    rows = [" ".join(map(str, row)) for row in [*POINTS, *[(len(polygon), *polygon) for polygon in polygons]]]
    return ply_header("ascii", len(POINTS), faces) + "\n".join(rows) + "\n"


def binary_ply(order: str, colour: bool = False) -> bytes:
    faces = f"element face {len(POLYGONS)}\n" + "property uchar red\n" * colour
    faces += "property list uchar int vertex_index\n" + "property list int64 float texcoord\n" * colour
    layout = "binary_little_endian" if order == "<" else "binary_big_endian"
    body = POINTS.astype(f"{order}f8").tobytes()
    for polygon in POLYGONS:
        body += b"\7" * colour + struct.pack(f"{order}B{len(polygon)}i", len(polygon), *polygon)
        body += struct.pack(f"{order}q2f", 2, 0.5, 0.5) * colour
    return ply_header(layout, len(POINTS), faces).encode() + body


class TestPly:
    @pytest.mark.parametrize("colour", [False, True])
    @pytest.mark.parametrize("order", ["<", ">"])
    def test_mixed_polygons(self, tmp_path: Path, order: str, colour: bool) -> None:
        (tmp_path / "prism.ply").write_bytes(binary_ply(order, colour))
        assert_is_prism(tmp_path / "prism.ply")

    @pytest.mark.parametrize(
        "text",
        [
            ply_in_words(POLYGONS),
            ply_in_words(POLYGONS, "corners"),
            ply_in_words(POLYGONS).replace("\n", "\r\n"),
            ply_in_words(POLYGONS).replace("\n", "\r"),
            ply_in_words(POLYGONS).replace("\n0.0 2.0", "\n  0.0\t2.0") + "\n\n",
        ],
        ids=["plain", "name", "crlf", "cr", "blanks"],
    )
    def test_words(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "prism.ply").write_bytes(text.encode())
        assert_is_prism(tmp_path / "prism.ply")

    def test_binary_with_old_line_ends(self, tmp_path: Path) -> None:
        header, mark, body = binary_ply("<").partition(b"end_header\n")
        # The first of the numbers begins with a byte that is a line feed.
        body = struct.pack("<d", np.frombuffer(b"\n" + b"\0" * 7, "<f8")[0]) + body[8:]
        (tmp_path / "prism.ply").write_bytes((header + mark).replace(b"\n", b"\r") + body)
        assert_is_prism(tmp_path / "prism.ply")

    @pytest.mark.parametrize("num_lists", [1, 2])
    def test_strips_of_triangles(self, tmp_path: Path, num_lists: int) -> None:
        # An octahedron: the first strip goes round it, the others are the two faces that are left.
        points = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [-1, 0, 0], [0, -1, 0], [0, 0, -1]], float)
        strips = [[0, 1, 2, 3, 4, 5, 0, 1], [0, 2, 4, -1, 1, 5, 3]]
        lists = strips if num_lists == 2 else [[*strips[0], -1, *strips[1], -1]]
        header = ply_header("binary_little_endian", 6, f"element tristrips {num_lists}\nproperty list int int strip\n")
        body = points.tobytes() + b"".join(struct.pack(f"<{len(row) + 1}i", len(row), *row) for row in lists)
        (tmp_path / "strips.ply").write_bytes(header.encode() + body)
        mesh = read_mesh(tmp_path / "strips.ply")
        assert len(mesh.faces) == 8
        assert mesh.volume == pytest.approx(4 / 3)
        assert mesh.is_watertight

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (binary_ply("<")[:-3], "cut short: .* last of its 8 rows of 'face'"),
            (binary_ply("<") + b"\1" * 17, "goes on behind the last row"),
            (ply_in_words(POLYGONS).replace("2.0", "2,0").encode(), "numbers can be read .* decimal points"),
            (ply_in_words(POLYGONS).replace("face 8", "face 7").encode(), "goes on behind the last row"),
            (
                ply_header("ascii", 0, "element range_grid 1\nproperty list uchar int i\n").encode() + b"1 0",
                "range_grid",
            ),
            (binary_ply("<").replace(b"double z", b"double w"), "have x, y, w, but not x, y and z"),
            (binary_ply("<").replace(b"binary_little_endian", b"binary"), "'format binary 1.0' of its header"),
            (binary_ply("<").replace(b"property double z", b"property half z"), "'property half z' of its header"),
            (binary_ply("<").replace(b"end_header", b"end"), "does not begin with 'ply' and a header"),
        ],
    )
    def test_refused(self, tmp_path: Path, content: bytes, message: str) -> None:
        (tmp_path / "prism.ply").write_bytes(content)
        with pytest.raises(ValueError, match=rf"Cannot read .*prism\.ply as a mesh: .*({message})"):
            read_mesh(tmp_path / "prism.ply")


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
