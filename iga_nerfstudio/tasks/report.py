"""Runs as one HTML file that needs nothing else: results, pictures, settings, and a comparison to zoom into."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from PIL import Image

from iga_nerfstudio.data.images import to_levels
from iga_nerfstudio.files import write_text

PAGE_BYTES = 9_500_000
"""About the most bytes of a page."""
FIGURE_BYTES = 800_000
"""About the most bytes of the file of each of its figures; what they leave is for the compared pictures."""

_TEMPLATE = "report.html"
# Qualities that JPEG is tried with before pictures are shrunk, and the longest side in pixels that it can have.
_QUALITIES = (95, 90, 85)
_JPEG_LARGEST_SIDE = 65_500


def write_report(
    path: Path,
    title: str,
    metrics: dict[str, dict[str, float]],
    facts: dict[str, Any],
    comparison: dict[str, np.ndarray],
    pictures: dict[str, Path],
    settings: str,
    summary: str = "",
    caption: str = "",
) -> None:
    """Write the report.

    Pictures are embedded as PNG, which is exact. Where the page would then have more than :data:`PAGE_BYTES` they are
    JPEG, shrunk if need be, and the page says so.

    Args:
        path: HTML file to write.
        title: What the run is called.
        metrics: Metrics of some models, by the model's name; one may lack what another has.
        facts: What else is worth a line: names and values.
        comparison: Two or more pictures of one size by their names, ``(H, W, 3)`` in [0, 1]; the last two are compared
            first.
        pictures: PNG files to show below by their captions, in order.
        settings: The run's settings, as YAML.
        summary: What came out, in a sentence.
        caption: What the compared pictures show.

    Raises:
        ValueError: If the pictures to compare differ in size.
        OSError: If the file cannot be written.
    """
    shapes = [picture.shape for picture in comparison.values()]
    if len(set(shapes)) > 1:
        raise ValueError(f"Pictures to compare have one size, got {' and '.join(map(str, shapes))}.")
    figures = "".join(_figure(picture, name) for name, picture in pictures.items())
    # In the page, four bytes stand for three.
    room = max(PAGE_BYTES - len(figures), PAGE_BYTES // 4) * 3 // 4
    compared = _embed([Image.fromarray(to_levels(picture)) for picture in comparison.values()], room)
    height, width = shapes[0][:2]
    images = "".join(
        f'<img alt="{html.escape(name)}" width="{width}" height="{height}" src="{url}" draggable="false">\n'
        for name, url in zip(comparison, compared.urls, strict=True)
    )
    template = Template((files("iga_nerfstudio.tasks") / _TEMPLATE).read_text(encoding="utf-8"))
    page = template.substitute(
        title=html.escape(title),
        summary=_paragraph(summary),
        metrics=_metrics_table(metrics),
        facts="".join(f"<li>{html.escape(name)}: {html.escape(str(value))}</li>" for name, value in facts.items()),
        heading=html.escape(", ".join(comparison)),
        caption=_paragraph(caption),
        note=_paragraph(compared.note),
        images=images,
        width=width,
        height=height,
        pictures=figures,
        settings=html.escape(settings),
    )
    write_text(path, page)


def _paragraph(text: str) -> str:
    return f"<p>{html.escape(text)}</p>" if text else ""


def as_picture(values: np.ndarray) -> np.ndarray:
    """An image of any number of channels as ``(H, W, 3)``: one is grey, of others the first three are shown.

    Args:
        values: ``(H, W, C)`` in [0, 1]; what lies beyond is clamped. Two channels are shown as red and green.

    Returns:
        ``(H, W, 3)``, which may share the memory of ``values``.
    """
    channels = values.shape[2]
    if channels == 1:
        values = values.repeat(3, axis=2)
    elif channels == 2:
        values = np.concatenate([values, np.zeros_like(values[..., :1])], axis=2)
    picture = values[..., :3]
    if picture.min() >= 0 and picture.max() <= 1:
        return picture  # no copy of a large one for nothing
    clamped: np.ndarray = np.clip(picture, 0, 1)
    return clamped


def _metrics_table(metrics: dict[str, dict[str, float]]) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in metrics)
    names = {name: None for own in metrics.values() for name in own}  # a model without a surface lacks some
    rows = "".join(
        f"<tr><th>{html.escape(name)}</th>"
        + "".join(f"<td>{own[name]:.5g}</td>" if name in own else "<td></td>" for own in metrics.values())
        + "</tr>"
        for name in names
    )
    return f"<table><thead><tr><th></th>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _figure(path: Path, caption: str) -> str:
    """A figure of the page, of a PNG file."""
    content, name = path.read_bytes(), html.escape(caption)
    figure = _Embedded([_data_url(content, "png")])
    if len(content) > FIGURE_BYTES:
        figure = _embed([Image.open(path).convert("RGB")], FIGURE_BYTES)
    below = f"{name}. {figure.note}" if figure.note else name
    return f'<figure><img src="{figure.urls[0]}" alt="{name}"><figcaption>{below}</figcaption></figure>'


@dataclass(frozen=True)
class _Embedded:
    """Pictures in a page.

    Attributes:
        urls: Their contents as URLs.
        note: In what they differ from the pictures themselves; empty if in nothing.
    """

    urls: Sequence[str]
    note: str = ""


def _embed(pictures: Sequence[Image.Image], most_bytes: int) -> _Embedded:
    """Pictures of one size, mode RGB, as exactly as so many bytes, thousands at least, allow for all of them."""
    contents, kind, note = next(
        encoding for encoding in _encodings(pictures) if sum(map(len, encoding[0])) <= most_bytes
    )
    return _Embedded([_data_url(content, kind) for content in contents], note)


def _encodings(pictures: Sequence[Image.Image]) -> Iterator[tuple[list[bytes], str, str]]:
    """Contents of picture files, their kind and what to say of them, each one smaller than the one before."""
    yield [_encoded(picture, format="PNG") for picture in pictures], "png", ""
    width, height = pictures[0].size
    for factor in (2**k for k in range(max(width, height).bit_length())):
        shrunk = [picture.reduce(factor) for picture in pictures] if factor > 1 else pictures
        new_width, new_height = shrunk[0].size
        if max(new_width, new_height) > _JPEG_LARGEST_SIDE:
            continue
        smaller = f", shrunk from {width} x {height} to {new_width} x {new_height} pixels" if factor > 1 else ""
        for quality in _QUALITIES:
            contents = [_encoded(picture, format="JPEG", quality=quality, subsampling=0) for picture in shrunk]
            yield contents, "jpeg", f"To keep this page small, shown as JPEG of quality {quality}{smaller}."


def _encoded(picture: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, **options)
    return buffer.getvalue()


def _data_url(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
