"""What one client at rest costs a training on this machine, and how soon it sees something sharp."""

from __future__ import annotations

import io
import re
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import msgspec
from PIL import Image
from websockets.sync.client import connect

from iga_nerfstudio.benchmark.study import Figures, Study, Train
from iga_nerfstudio.benchmark.tables import table
from iga_nerfstudio.scenes import write_demo_scene

# Every step is printed, and nothing is evaluated or saved meanwhile.
TRAINING = """iga-nerf-tiny --experiment-name x --timestamp run --vis viewer+tensorboard --logging.steps-per-log 1
--max-num-iterations 100000 --steps-per-eval-batch 100000 --steps-per-eval-image 100000 --steps-per-save 100000"""
REST = 5.0  # Seconds after which a new client has been sent its sharp picture.
# Of a browser window of 1280x720 that nobody touches.
CAMERA = {
    "type": "ViewerCameraMessage", "wxyz": (1.0, 0.0, 0.0, 0.0), "position": (3.0, 3.0, 3.0), "fov": 1.3,
    "aspect": 1280 / 720, "look_at": (0.0, 0.0, 0.0), "up_direction": (0.0, 0.0, 1.0),
}  # fmt: skip


@dataclass(frozen=True)
class Viewer(Study):
    """Steps of ns-train iga-nerf-tiny without and with a client at rest that speaks viser's protocol."""

    name: ClassVar[str] = "viewer"

    seconds_of_a_window: float = 20.0  # Of every window of time in which steps are counted.
    windows: int = 3  # Windows without and with a client, each.

    def measure(self, train: Train) -> Figures:
        from iga_nerfstudio.nerf.ports import LOOPBACK, find_port

        if self.windows < 1 or self.seconds_of_a_window <= 0:
            raise ValueError(f"Need windows of some seconds, got {self.windows} of {self.seconds_of_a_window} s.")
        with tempfile.TemporaryDirectory() as folder:
            log, port = Path(folder, "log.txt"), find_port(LOOPBACK, 17700)
            command = [str(Path(sys.executable).with_name("ns-train")), *TRAINING.split(), "--output-dir", folder]
            command += ["--data", str(write_demo_scene(Path(folder, "scene"))), "--viewer.websocket-port", str(port)]
            with log.open("w") as file, subprocess.Popen(command, stdout=file, stderr=file) as training:
                try:
                    while _latest_step(log) < 20:
                        time.sleep(1)
                        if training.poll() is not None:
                            raise ValueError(f"ns-train ended before its 20th step: {log.read_text()[-2000:]}")
                    alone, watched = [], []
                    frames: list[tuple[float, int]] = []
                    for _ in range(self.windows):  # alternately: what else the machine does hits both alike
                        alone.append(self.count(log))
                        until = time.monotonic() + REST + self.seconds_of_a_window
                        with ThreadPoolExecutor(1) as pool:
                            client = pool.submit(watch, f"ws://{LOOPBACK}:{port}", until)
                            time.sleep(REST)
                            watched.append(self.count(log))
                            received = client.result()
                        frames = frames or received
                finally:
                    training.terminate()
        if not frames:
            raise ValueError(f"No picture came in {self.windows} x {self.seconds_of_a_window} s. Give it more seconds.")
        largest = max(size for _, size in frames)
        return {
            "steps_alone": alone,
            "steps_watched": watched,
            "largest_frame": largest,
            "seconds_to_largest_frame": next(at for at, size in frames if size == largest),
            "frames": frames,
        }

    def count(self, log: Path) -> int:
        """Steps in a window of time."""
        before = _latest_step(log)
        time.sleep(self.seconds_of_a_window)
        return _latest_step(log) - before

    @classmethod
    def section(cls, figures: Figures, stem: str) -> str:
        alone, watched = (statistics.median(figures[name]) for name in ("steps_alone", "steps_watched"))
        sharp = f"{figures['largest_frame']} pixels, after {figures['seconds_to_largest_frame']:.1f} s"
        head = ("steps alone", "steps watched", "watched / alone", "first sharp frame")
        return f"""## A training that somebody watches

`iga-nerf-tiny` on the demo scene by `ns-train`, in turn alone and with a browser window of 1280x720 that nobody \
touches. Steps in {figures["seconds_of_a_window"]:g} s, medians of {len(figures["steps_alone"])} such windows of time \
each; a watched one begins {REST:g} s after the browser comes.

{table(head, [[f"{alone:g}", f"{watched:g}", f"**{watched / alone:.2f}**", sharp]])}"""


def watch(address: str, until: float) -> list[tuple[float, int]]:
    """Receive what a viewer sends until a time of ``time.monotonic``: seconds since the client came, and the longer
    side in pixels, of every picture."""
    frames = []
    start = time.monotonic()
    with connect(address, max_size=None) as socket:
        socket.send(msgspec.msgpack.encode(CAMERA))
        while (left := until - time.monotonic()) > 0:
            try:
                messages = msgspec.msgpack.decode(socket.recv(timeout=left, decode=False))
            except TimeoutError:
                break
            for message in messages if isinstance(messages, list) else [messages]:
                if message["type"] == "BackgroundImageMessage" and message["rgb_bytes"]:
                    size = max(Image.open(io.BytesIO(message["rgb_bytes"])).size)
                    frames.append((round(time.monotonic() - start, 1), size))
    return frames


def _latest_step(log: Path) -> int:
    """The latest step that a training has printed."""
    found = re.findall(r"^(\d+) \(", log.read_text(), flags=re.MULTILINE)
    return int(found[-1]) if found else 0
