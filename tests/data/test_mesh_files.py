"""Dialects of OBJ, STL and PLY files: each is read as what it stands for, or refused by its name."""

from __future__ import annotations

import logging
import struct
from pathlib import Path

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
            PRISM.replace("f 2 1 6", "f 2 \\ # half\n1 \\\n6"),
            PRISM.replace("f 2 1 6", "# of C:\\made\\\nf 2 1 6").replace("f 9", "mtllib C:\\made\\\nf 9"),
            PRISM + "\0" * 100,
        ],
        ids=[
            *["plain", "tabs", "wide", "indented", "mark", "crlf", "cr", "continued", "continued-crlf", "normals"],
            *["comments", "capitals", "colour", "groups", "lines", "no-end"],
            *["continued-comment", "folders", "padded"],
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
            (PRISM.replace("f 2 1", f"f 1{20 * '0'} 1"), "names the vertex 10+ after 12 vertices"),
            (PRISM.replace("f 2 1", "\0" * 512), "damaged: bytes of 0 are among its words"),
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
