"""A run as one HTML file that needs nothing else: results, pictures, settings, and a comparison to zoom into."""

from __future__ import annotations

import base64
import html
import io
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from PIL import Image

from iga_nerfstudio.files import write_text

_TEMPLATE = "report.html"


def write_report(
    path: Path,
    title: str,
    metrics: dict[str, dict[str, float]],
    facts: dict[str, Any],
    comparison: tuple[np.ndarray, np.ndarray],
    pictures: list[Path],
    settings: str,
) -> None:
    """Write the report.

    Args:
        path: HTML file to write.
        title: What the run is called.
        metrics: Metrics of some models, by the model's name; the first one's decide which are shown.
        facts: What else is worth a line: names and values.
        comparison: Ground truth and reconstruction as pictures of one size, ``(H, W, 3)`` in [0, 1].
        pictures: PNG files to show below, in order.
        settings: The run's settings, as YAML.

    Raises:
        ValueError: If the pictures to compare differ in size.
        OSError: If the file cannot be written.
    """
    truth, found = comparison
    if truth.shape != found.shape:
        raise ValueError(f"Pictures to compare have one size, got {truth.shape} and {found.shape}.")
    template = Template((files("iga_nerfstudio.tasks") / _TEMPLATE).read_text(encoding="utf-8"))
    page = template.substitute(
        title=html.escape(title),
        metrics=_metrics_table(metrics),
        facts="".join(f"<li>{html.escape(name)}: {html.escape(str(value))}</li>" for name, value in facts.items()),
        truth=_data_url(_png(truth)),
        found=_data_url(_png(found)),
        width=truth.shape[1],
        height=truth.shape[0],
        pictures="".join(
            f'<figure><img src="{_data_url(picture.read_bytes())}" alt="{html.escape(picture.stem)}">'
            f"<figcaption>{html.escape(picture.stem)}</figcaption></figure>"
            for picture in pictures
        ),
        settings=html.escape(settings),
    )
    write_text(path, page)


def as_picture(values: np.ndarray) -> np.ndarray:
    """An image of any number of channels as ``(H, W, 3)``: one is grey, of others the first three are shown.

    Args:
        values: ``(H, W, C)`` in [0, 1]; what lies beyond is clamped. Two channels are shown as red and green.
    """
    channels = values.shape[2]
    if channels == 1:
        values = values.repeat(3, axis=2)
    elif channels == 2:
        values = np.concatenate([values, np.zeros_like(values[..., :1])], axis=2)
    picture: np.ndarray = np.clip(values[..., :3], 0, 1)
    return picture


def _metrics_table(metrics: dict[str, dict[str, float]]) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in metrics)
    names = next(iter(metrics.values()))
    rows = "".join(
        f"<tr><th>{html.escape(name)}</th>"
        + "".join(f"<td>{own[name]:.5g}</td>" if name in own else "<td></td>" for own in metrics.values())
        + "</tr>"
        for name in names
    )
    return f"<table><thead><tr><th></th>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _png(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.round(255 * picture).astype(np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


def _data_url(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
