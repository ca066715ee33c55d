"""What one client at rest costs a training on this machine, and how soon it sees something sharp.

``python -m iga_nerfstudio.benchmark.cost.watching`` trains ``iga-nerf-tiny`` on the demo scene with ns-train, counts steps
without and with a client that speaks viser's protocol, prints one JSON line, and writes it as a result.
"""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import tyro
from PIL import Image
from websockets.sync.client import connect

from iga_nerfstudio.benchmark.record import write_result
from iga_nerfstudio.nerf.trainer import LOOPBACK, find_port
from iga_nerfstudio.scenes import write_demo_scene


@dataclass
class Client:
    """A browser window of 1280x720 that nobody touches.

    Attributes:
        frames: Seconds since it came, and the longer side in pixels, of every picture that it was sent.
    """

    port: int
    frames: list[tuple[float, int]] = field(default_factory=list)

    def watch(self, until: float) -> None:
        """Receive what the viewer sends until a time of ``time.monotonic``."""
        camera: dict[str, Any] = {
            "type": "ViewerCameraMessage",
            "wxyz": (1.0, 0.0, 0.0, 0.0),
            "position": (3.0, 3.0, 3.0),
            "fov": 1.3,
            "aspect": 1280 / 720,
            "look_at": (0.0, 0.0, 0.0),
            "up_direction": (0.0, 0.0, 1.0),
        }
        start = time.monotonic()
        with connect(f"ws://{LOOPBACK}:{self.port}", max_size=None) as socket:
            socket.send(msgspec.msgpack.encode(camera))
            while (left := until - time.monotonic()) > 0:
                try:
                    messages = msgspec.msgpack.decode(socket.recv(timeout=left, decode=False))
                except TimeoutError:
                    return
                for message in messages if isinstance(messages, list) else [messages]:
                    if message["type"] == "BackgroundImageMessage" and message["rgb_bytes"]:
                        size = max(Image.open(io.BytesIO(message["rgb_bytes"])).size)
                        self.frames.append((time.monotonic() - start, size))


@dataclass
class Watching:
    """Settings."""

    seconds: float = 20.0
    """Of every window in which steps are counted."""
    windows: int = 3
    """Windows without and with a client, each."""
    output: Path = Path("benchmarks/results/watching.json")
    """File to write."""


def steps(log: Path) -> int:
    """The latest step that a training has printed."""
    found = re.findall(r"^(\d+) \(", log.read_text(), flags=re.MULTILINE)
    return int(found[-1]) if found else 0


def measure(settings: Watching) -> dict[str, Any]:
    """Train, count, and end the training."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        port = find_port(LOOPBACK, 17700)
        command = [
            str(Path(sys.executable).with_name("ns-train")), "iga-nerf-tiny",
            "--data", str(write_demo_scene(folder / "scene")), "--output-dir", str(folder), "--experiment-name", "x",
            "--timestamp", "run", "--vis", "viewer+tensorboard", "--max-num-iterations", "100000",
            "--logging.steps-per-log", "1", "--viewer.websocket-port", str(port), "--steps-per-eval-batch", "100000",
            "--steps-per-eval-image", "100000", "--steps-per-save", "100000",
        ]  # fmt: skip
        with (folder / "log.txt").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as training:
            printed = folder / "log.txt"
            while steps(printed) < 20:
                if training.poll() is not None:
                    raise RuntimeError(printed.read_text()[-2000:])
                time.sleep(1)
            alone = count(printed, settings)
            client = Client(port)
            until = time.monotonic() + settings.seconds * settings.windows + 5
            thread = threading.Thread(target=client.watch, args=(until,), daemon=True)
            thread.start()
            watched = count(printed, settings)
            thread.join()
            training.terminate()
    largest = max(size for _, size in client.frames)
    return {
        "steps_alone": alone,
        "steps_watched": watched,
        "seconds_of_a_window": settings.seconds,
        "largest_frame": largest,
        "seconds_to_largest_frame": round(next(at for at, size in client.frames if size == largest), 1),
        "frames": [(round(at, 1), size) for at, size in client.frames],
    }


def count(printed: Path, settings: Watching) -> list[int]:
    """Steps in each of some windows of time."""
    counts = []
    for _ in range(settings.windows):
        before = steps(printed)
        time.sleep(settings.seconds)
        counts.append(steps(printed) - before)
    return counts


if __name__ == "__main__":
    settings = tyro.cli(Watching)
    figures = measure(settings)
    write_result(settings.output, figures)
    print(json.dumps(figures))
