"""Surface colours with detail from solid areas to stripes about two pixels wide at 100 x 100 pixels.

Every texture maps surface points in the shape's own frame, ``(n, 3)``, and their normals, ``(n, 3)``, to sRGB
colours in [0, 1], ``(n, 3)``. Periods are in scene units: seen from the demo cameras, a pixel covers about
0.03 units in a view of 100 x 100 pixels and about 0.015 in one of 200 x 200.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from iga_nerfstudio.scenes.shapes import FloatArray, dot, length

Texture = Callable[[FloatArray, FloatArray], FloatArray]


def _srgb(code: str) -> FloatArray:
    return np.array([int(code[i : i + 2], 16) for i in (0, 2, 4)]) / 255.0


NAVY = _srgb("1d3557")
TEAL = _srgb("2a9d8f")
YELLOW = _srgb("f2c14e")
ORANGE = _srgb("f3873f")
RED = _srgb("d1373f")
CREAM = _srgb("f8f1e3")
SAGE = _srgb("b9d3c2")
SKY = _srgb("8ecae6")
PLUM = _srgb("6d3b6f")
CHARCOAL = _srgb("2b2d33")

# A 5 x 7 pixel alphabet, as far as the box needs it.
_LETTERS = {
    "I": ("###", ".#.", ".#.", ".#.", ".#.", ".#.", "###"),
    "G": (".###.", "#...#", "#....", "#.###", "#...#", "#...#", ".###."),
    "A": (".###.", "#...#", "#...#", "#####", "#...#", "#...#", "#...#"),
    "N": ("#...#", "##..#", "##..#", "#.#.#", "#..##", "#..##", "#...#"),
    "T": ("#####", "..#..", "..#..", "..#..", "..#..", "..#..", "..#.."),
    "K": ("#...#", "#..#.", "#.#..", "##...", "#.#..", "#..#.", "#...#"),
}


def _word_bitmap(word: str) -> FloatArray:
    """The word as a ``(7, columns)`` array of 0 and 1, one empty column between letters."""
    lines = [".".join(_LETTERS[letter][row] for letter in word) for row in range(7)]
    return np.array([[float(mark == "#") for mark in line] for line in lines])


def _blend(first: FloatArray, second: FloatArray, weight: FloatArray) -> FloatArray:
    """``first`` where ``weight``, ``(n,)``, is 0, ``second`` where it is 1; each ``(3,)`` or ``(n, 3)``."""
    return first + weight[:, None] * (second - first)


def _stripes(coordinate: FloatArray, period: float | FloatArray) -> FloatArray:
    """1 in the first half of every period, 0 in the second."""
    return (np.mod(coordinate / period, 1.0) < 0.5).astype(np.float64)


def _checks(u: FloatArray, v: FloatArray, period: float | FloatArray) -> FloatArray:
    return np.abs(_stripes(u, period) - _stripes(v, period))


def _wave(coordinate: FloatArray, period: float | FloatArray) -> FloatArray:
    return 0.5 + 0.5 * np.sin(2.0 * np.pi * coordinate / period)


def _between(values: FloatArray, low: float, high: float) -> FloatArray:
    return ((values >= low) & (values < high)).astype(np.float64)


def _dots(u: FloatArray, v: FloatArray, spacing: float, radius: float) -> FloatArray:
    """1 inside dots on a square grid with a dot centred at (spacing / 2, spacing / 2)."""
    across, up = np.mod(u, spacing) - spacing / 2, np.mod(v, spacing) - spacing / 2
    return (length(across, up) < radius).astype(np.float64)


def _word(u: FloatArray, v: FloatArray, word: str, cell: float) -> FloatArray:
    """1 on the strokes of ``word`` centred at (0, 0); ``u`` runs right, ``v`` up, a dot is ``cell`` wide."""
    bitmap = _word_bitmap(word)
    rows, columns = bitmap.shape
    column = np.floor(u / cell + columns / 2).astype(np.int64)
    row = np.floor(rows / 2 - v / cell).astype(np.int64)
    inside = (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
    return np.where(inside, bitmap[np.clip(row, 0, rows - 1), np.clip(column, 0, columns - 1)], 0.0)


def solid(color: FloatArray) -> Texture:
    """One colour ``(3,)`` everywhere."""
    return lambda points, normals: np.broadcast_to(color, points.shape)


def dial(points: FloatArray, normals: FloatArray) -> FloatArray:
    """The base: broad checks inside, a rim of radial ticks that doubles its frequency in every quarter."""
    across = length(points[:, 0], points[:, 1])
    turn = np.mod(np.arctan2(points[:, 1], points[:, 0]) / (2.0 * np.pi), 1.0)
    ticks_per_turn = 12.0 * 2.0 ** np.floor(4.0 * turn)
    top = _blend(CREAM, SAGE, _checks(points[:, 0], points[:, 1], 0.4))
    top = _blend(top, NAVY, _between(across, 0.90, 0.94))
    top = _blend(top, CREAM, _between(across, 0.94, 2.0))
    top = _blend(top, NAVY, _between(across, 0.97, 1.12) * _stripes(turn, 1.0 / ticks_per_turn))
    top = _blend(top, NAVY, _between(across, 1.15, 2.0))
    side = _blend(NAVY, SKY, _between(np.abs(points[:, 2]), 0.0, 0.02))
    return np.where((np.abs(normals[:, 2]) > 0.5)[:, None], top, side)


def lighthouse(points: FloatArray, normals: FloatArray) -> FloatArray:
    """The tower: red and white bands in four sections, from broad to fine, and four round windows."""
    height = points[:, 2] + 0.45
    period = np.select([height < 0.30, height < 0.54, height < 0.72], [0.30, 0.16, 0.09], 0.06)
    start = np.select([height < 0.30, height < 0.54, height < 0.72], [0.0, 0.30, 0.54], 0.72)
    color = _blend(CREAM, RED, _stripes(height - start, period))
    around = np.mod(np.arctan2(points[:, 1], points[:, 0]), np.pi / 2) - np.pi / 4
    windows = (length(0.22 * around, height - 0.22) < 0.045).astype(np.float64)
    return _blend(color, CHARCOAL, windows)


def printed_box(points: FloatArray, normals: FloatArray) -> FloatArray:
    """The box: two lettered sides, two sides of checks in three sizes, wavy rings on top."""
    x, y, z = points.T
    axis = np.argmax(np.abs(normals), axis=1)
    facing = normals[np.arange(len(points)), axis]
    # u runs to the right as seen from outside.
    u = np.select([axis == 0, axis == 1], [y * facing, -x * facing], x)
    lettered = np.where((facing > 0)[:, None], _lettered(u, z, "IGA", YELLOW), _lettered(u, z, "NTK", SKY))
    checked = np.where((facing > 0)[:, None], _check_sizes(u, z, PLUM), _check_sizes(-u, z, NAVY))
    rings = _blend(YELLOW, PLUM, _wave(length(x, y), 0.085))
    return np.select([(axis == 0)[:, None], (axis == 1)[:, None]], [lettered, checked], rings)


def _lettered(u: FloatArray, v: FloatArray, word: str, background: FloatArray) -> FloatArray:
    color = _blend(background, CHARCOAL, _word(u, v - 0.07, word, 0.026))
    color = _blend(color, CREAM, _between(v, -0.19, -0.07))
    return _blend(color, CHARCOAL, _dots(u, v + 0.19, 0.06, 0.018) * _between(v, -0.19, -0.07))


def _check_sizes(u: FloatArray, v: FloatArray, ink: FloatArray) -> FloatArray:
    sizes = np.select([v > 0.07, v > -0.09], [0.07, 0.12], 0.26)
    return _blend(CREAM, ink, _checks(u, v + 0.26, sizes))


def ball(points: FloatArray, normals: FloatArray) -> FloatArray:
    """The ball: two plain colours, a belt of fine meridian stripes and a polka-dotted cap."""
    turn = np.arctan2(normals[:, 1], normals[:, 0]) / (2.0 * np.pi)
    color = _blend(TEAL, ORANGE, _between(normals[:, 2], -2.0, -0.15))
    color = _blend(color, CREAM, _polka(normals, 90, 0.085) * _between(normals[:, 2], 0.22, 2.0))
    belt = _blend(CREAM, NAVY, _stripes(turn, 1.0 / 30.0))
    return np.where(_between(normals[:, 2], -0.15, 0.15)[:, None] > 0.5, belt, color)


def _polka(normals: FloatArray, count: int, radius: float) -> FloatArray:
    """1 within ``radius`` radians of one of ``count`` points spread evenly over the sphere."""
    heights = 1.0 - (2.0 * np.arange(count) + 1.0) / count
    turns = np.arange(count) * np.pi * (3.0 - np.sqrt(5.0))
    across = np.sqrt(1.0 - heights**2)
    centres = np.stack([across * np.cos(turns), across * np.sin(turns), heights])
    return ((normals @ centres).max(axis=1) > np.cos(radius)).astype(np.float64)


def ring(points: FloatArray, normals: FloatArray) -> FloatArray:
    """The torus: plain sectors between broad stripes, fine stripes and a spiral wave."""
    turn = np.mod(np.arctan2(points[:, 1], points[:, 0]) / (2.0 * np.pi), 1.0)
    tube = np.arctan2(normals[:, 2], _outward(points, normals)) / (2.0 * np.pi)
    broad = _blend(ORANGE, CREAM, _stripes(turn, 1.0 / 12.0))
    fine = _blend(PLUM, CREAM, _stripes(turn, 1.0 / 30.0))
    spiral = _blend(YELLOW, RED, _wave(18.0 * turn + tube, 1.0))
    plain = np.broadcast_to(ORANGE, points.shape)
    sector = np.floor(8.0 * turn)[:, None]
    fine_sector, spiral_sector = (sector == 4) | (sector == 5), (sector == 0) | (sector == 7)
    broad_sector = (sector == 1) | (sector == 2)
    return np.select([broad_sector, fine_sector, spiral_sector], [broad, fine, spiral], plain)


def _outward(points: FloatArray, normals: FloatArray) -> FloatArray:
    """Component of the normals away from the z axis, ``(n,)``."""
    across = np.maximum(length(points[:, 0], points[:, 1]), 1e-12)
    return dot(points[:, :2], normals[:, :2]) / across


def lantern(points: FloatArray, normals: FloatArray) -> FloatArray:
    """The lighthouse's lamp room: yellow panes between dark bars."""
    turn = np.arctan2(points[:, 1], points[:, 0]) / (2.0 * np.pi)
    return _blend(YELLOW, CHARCOAL, _between(np.mod(8.0 * turn, 1.0), 0.0, 0.3))


def roof(points: FloatArray, normals: FloatArray) -> FloatArray:
    """The lighthouse's roof: a smooth ripple from rim to tip."""
    return _blend(RED, PLUM, _wave(points[:, 2], 0.07))


def bands(first: FloatArray, second: FloatArray, period: float) -> Texture:
    """Bands of two colours ``(3,)`` along the z axis."""
    return lambda points, normals: _blend(first, second, _stripes(points[:, 2], period))


def checks(first: FloatArray, second: FloatArray, period: float) -> Texture:
    """Checks of two colours ``(3,)`` on the sides of a box."""

    def colors(points: FloatArray, normals: FloatArray) -> FloatArray:
        # Only places along the side count: the third coordinate may lie on an edge of the pattern.
        x, y, z = (points * (1.0 - np.abs(normals))).T
        return _blend(first, second, np.abs(_stripes(x, period) - _checks(y, z, period)))

    return colors


def spots(first: FloatArray, second: FloatArray, count: int, radius: float) -> Texture:
    """A ball of the first colour ``(3,)`` with ``count`` spots of the second, of ``radius`` radians each."""
    return lambda points, normals: _blend(first, second, _polka(normals, count, radius))


def clock_face(points: FloatArray, normals: FloatArray) -> FloatArray:
    """The orrery's foot: a circle of radial ticks around a dark centre."""
    across = length(points[:, 0], points[:, 1])
    turn = np.arctan2(points[:, 1], points[:, 0]) / (2.0 * np.pi)
    color = _blend(CREAM, NAVY, _between(across, 0.22, 0.30) * _stripes(turn, 1.0 / 36.0))
    return _blend(color, NAVY, _between(across, 0.0, 0.12))
