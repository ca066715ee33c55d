"""The viewer in a real browser: Debian's chromium, headless, on a training as a person would start it."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from iga_nerfstudio.nerf.ports import find_port
from iga_nerfstudio.scenes import write_demo_scene
from tests.nerf.test_command_line import COMMANDS

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
# CI installs it.
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH (Debian: apt-get install chromium)"),
    # A browser without a GPU draws on the cores that train.
    pytest.mark.timeout(600),
]
FLAGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]
# Screenshots for the docs go there if it is set.
PICTURES = os.environ.get("IGA_PICTURES")
WAIT_MS = 120_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


class Training:
    """``ns-train iga-nerf-tiny`` with a viewer, running."""

    def __init__(self, scene: Path, output: Path, *options: object) -> None:
        port = find_port("127.0.0.1", 17100 + os.getpid() % 800)
        self.url = f"http://127.0.0.1:{port}"
        self.log_path = output / "log.txt"
        self.folder = output / "live" / "iga-nerf-tiny" / "run"
        command = [
            COMMANDS / "ns-train", "iga-nerf-tiny", "--data", scene, "--output-dir", output,
            "--experiment-name", "live",
            "--timestamp", "run", "--vis", "viewer+tensorboard", "--viewer.websocket-port", port,
            "--max-num-iterations", 100000, "--machine.device-type", "cpu", "--logging.steps-per-log", 4,
            "--steps-per-eval-image", 100000, "--steps-per-eval-batch", 100000,
            "--viewer.max-num-display-images", 8, *options,
        ]  # fmt: skip
        environment = os.environ | {"COLUMNS": "200", "CUDA_VISIBLE_DEVICES": "", "PYTHONUNBUFFERED": "1"}
        with self.log_path.open("w") as log:
            self.process = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log, env=environment)

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def scalar(self, tag: str) -> list[tuple[int, float]]:
        if not list(self.folder.glob("events.out.*")):
            return []
        events = EventAccumulator(str(self.folder))
        events.Reload()
        if tag not in events.Tags()["scalars"]:
            return []
        return [(event.step, event.value) for event in events.Scalars(tag)]

    def wait_for(self, what: Callable[[], object], seconds: float = 120.0) -> None:
        end = time.monotonic() + seconds
        while not what():
            assert self.process.poll() is None, f"The training ended:\n{self.log[-3000:]}"
            assert time.monotonic() < end, f"Waited in vain:\n{self.log[-3000:]}"
            time.sleep(0.3)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def training(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Training]:
    training = Training(
        scene, tmp_path_factory.mktemp("browser"),
        "--pipeline.model.hidden-dim", 16, "--pipeline.model.num-coarse-samples", 8,
        "--pipeline.model.num-importance-samples", 8, "--pipeline.datamanager.train-num-rays-per-batch", 128,
        "--steps-per-save", 40,
    )  # fmt: skip
    try:
        training.wait_for(lambda: training.scalar("Train Metrics Dict/iga/end"), seconds=240)
        yield training
    finally:
        training.stop()


def open_page(browser: Any, training: Training) -> Any:
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.goto(training.url)
    page.get_by_label("Adjust", exact=True).wait_for(timeout=WAIT_MS)
    return page


def choose(page: Any, label: str, option: str) -> None:
    page.get_by_label(label).first.click()
    page.get_by_role("option", name=option, exact=True).click()


def pixels(page: Any) -> np.ndarray:
    """The middle of the rendered view, uint8 (h, w, 3)."""
    picture = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB"))
    return picture[250:650, 150:750]


def steps(training: Training) -> int:
    return int(re.findall(r"^(\d+) \(", training.log, re.MULTILINE)[-1])


def goes_on(training: Training) -> None:
    before = steps(training)
    training.wait_for(lambda: steps(training) > before + 5)


def test_the_panel_and_a_render_are_seen(browser: Any, training: Training) -> None:
    page = open_page(browser, training)
    # The spectrum is plotted, with numbers and all.
    page.locator(".js-plotly-plot .scatterlayer .trace").first.wait_for(timeout=WAIT_MS, state="attached")
    assert page.locator(".js-plotly-plot .xtitle").all_text_contents()[:1] == ["eigenvalue number"]
    training.wait_for(lambda: "are brought to" in page.content())
    # A render arrived, and it is more than one colour.
    training.wait_for(lambda: re.search(r"Resolution:(?:\s|<[^>]*>)*[1-9]\d*x[1-9]", page.content()))
    training.wait_for(lambda: pixels(page).std() > 5)
    page.close()


def test_changes_through_the_page_take_effect(browser: Any, training: Training) -> None:
    page = open_page(browser, training)
    box = page.get_by_label("Adjust", exact=True)
    assert box.is_checked()
    box.click()
    training.wait_for(lambda: "IGA: enabled is False instead of True after step" in training.log)
    training.wait_for(lambda: training.scalar("Train Metrics Dict/iga/end")[-1][1] == 0)
    box.click()
    training.wait_for(lambda: "IGA: enabled is True instead of False after step" in training.log)
    end = page.get_by_label("End", exact=True)
    end.fill("12")
    end.press("Enter")
    training.wait_for(lambda: "IGA: end is 12 instead of 25 after step" in training.log)
    training.wait_for(lambda: training.scalar("Train Metrics Dict/iga/end")[-1][1] == 12)
    page.close()


def test_a_wrong_combination_is_refused_on_the_page(browser: Any, training: Training) -> None:
    page = open_page(browser, training)
    page.get_by_text("More", exact=True).click()
    start = page.get_by_label("Start", exact=True)
    start.fill("90")
    start.press("Enter")
    page.get_by_text("end must not be smaller than start").wait_for(timeout=WAIT_MS)
    training.wait_for(lambda: start.input_value() == "1")
    goes_on(training)
    page.close()


def test_two_look_and_one_leaves_in_the_middle_of_a_render(browser: Any, training: Training) -> None:
    leaving, staying = (open_page(browser, training) for _ in range(2))
    # Turning the camera starts a render; leaving at once interrupts it.
    leaving.mouse.move(450, 450)
    leaving.mouse.down()
    leaving.mouse.move(600, 500, steps=5)
    leaving.mouse.up()
    leaving.close()
    goes_on(training)
    training.wait_for(lambda: pixels(staying).std() > 5)
    goes_on(training)
    staying.close()


def test_the_representatives_are_drawn(browser: Any, training: Training) -> None:
    page = open_page(browser, training)

    def red() -> int:
        shown = pixels(page).astype(int)
        return int(((shown[..., 0] > 200) & (shown[..., 1] < 130) & (shown[..., 2] < 120)).sum())

    training.wait_for(lambda: pixels(page).std() > 5)
    page.mouse.move(450, 450)
    for _ in range(12):  # away from the scene, that more of it is seen
        page.mouse.wheel(0, 400)
        page.wait_for_timeout(200)
    # What the render shows in front of a point would hide it.
    page.get_by_label("Composite depth").click()
    before = red()
    page.get_by_text("More", exact=True).click()
    page.get_by_label("Show points").click()
    training.wait_for(lambda: red() > before + 50)
    page.close()


def test_the_error_layer_leads_back_to_a_training_view(browser: Any, training: Training) -> None:
    page = open_page(browser, training)
    training.wait_for(lambda: pixels(page).std() > 5)
    choose(page, "Output type", "error")
    page.wait_for_timeout(3000)
    leads = page.get_by_role("button", name="Go to the nearest view")
    assert leads.count() == 0  # the first view is a training view
    page.mouse.move(450, 450)
    page.mouse.down()
    page.mouse.move(600, 500, steps=5)
    page.mouse.up()
    leads.click(timeout=WAIT_MS)
    training.wait_for(lambda: leads.count() == 0)
    page.wait_for_timeout(3000)
    assert leads.count() == 0
    choose(page, "Output type", "rgb")
    page.close()


def test_a_saved_run_shows_its_history(browser: Any, training: Training, tmp_path: Path) -> None:
    training.wait_for(lambda: list((training.folder / "nerfstudio_models").glob("*.ckpt")), seconds=120)
    port = find_port("127.0.0.1", 18100)
    with (tmp_path / "log.txt").open("w") as log:
        viewer = subprocess.Popen(
            [COMMANDS / "ns-viewer", "--load-config", training.folder / "config.yml",
             "--viewer.websocket-host", "127.0.0.1", "--viewer.websocket-port", str(port)],
            stdout=log, stderr=log, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        )  # fmt: skip
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    try:
        end = time.monotonic() + 90
        while "HTTP" not in (tmp_path / "log.txt").read_text():
            assert viewer.poll() is None, (tmp_path / "log.txt").read_text()[-2000:]
            assert time.monotonic() < end
            time.sleep(0.5)
        page.goto(f"http://127.0.0.1:{port}")
        choose(page, "Plot", "history")
        page.get_by_text("effective rank", exact=False).first.wait_for(timeout=WAIT_MS)
        page.locator(".js-plotly-plot .scatterlayer .trace").first.wait_for(timeout=WAIT_MS, state="attached")
        # Nothing is trained here, so there is nothing to change.
        assert page.get_by_label("Adjust", exact=True).count() == 0
    finally:
        page.close()
        viewer.kill()
        viewer.wait()


@pytest.mark.skipif(not PICTURES, reason="makes the docs' picture, which takes minutes (IGA_PICTURES)")
@pytest.mark.timeout(1800)
def test_the_picture_of_a_trained_scene(browser: Any, tmp_path: Path) -> None:
    scene = write_demo_scene(tmp_path / "scene", resolution=64, num_train=48, num_val=1, num_test=1)
    training = Training(scene, tmp_path)
    try:
        training.wait_for(lambda: re.search(r"^6000 \(", training.log, re.MULTILINE), seconds=1200)
        page = open_page(browser, training)
        # Training leaves a busy machine no time for a sharp frame.
        page.get_by_role("button", name="Pause Training").click()
        page.get_by_text("Mid", exact=True).click()
        training.wait_for(lambda: re.search(r"Resolution:(?:\s|<[^>]*>)*512x", page.content()))
        page.get_by_role("button", name="Resume Training").click()
        goes_on(training)
        page.locator(".js-plotly-plot .scatterlayer .trace").first.wait_for(timeout=WAIT_MS, state="attached")
        page.evaluate("document.querySelectorAll('.mantine-ScrollArea-viewport').forEach(area => area.scrollTo(0, 0))")
        page.screenshot(path=f"{PICTURES}/viewer.png")
        page.close()
    finally:
        training.stop()


def test_the_report_of_a_comparison_opens_without_errors(browser: Any, tmp_path: Path) -> None:
    write_demo_scene(tmp_path / "scene", resolution=96, num_train=1, num_val=1, num_test=1)
    subprocess.run(
        [COMMANDS / "iga-image", "--data", "scene/train/r_0.png", "--output-dir", "out", "--experiment-name", "demo",
         "--timestamp", "report", "--max-num-iterations", "600" if PICTURES else "60", "--network.hidden-dim", "32",
         "--compare"],
        check=True, capture_output=True, timeout=240, cwd=tmp_path,
    )  # fmt: skip
    report = tmp_path / "out" / "demo" / "iga-image" / "report" / "report.html"
    page = browser.new_page(viewport={"width": 1100, "height": 1400})
    problems: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(report.as_uri())
    found = page.locator("#view img.right")
    assert found.get_attribute("alt") == "adjusted"
    assert found.evaluate("image => image.naturalWidth") == 96
    page.locator("#right").select_option("ground truth")
    assert found.get_attribute("alt") == "ground truth"
    page.locator("#right").select_option("adjusted")
    assert page.locator("#view img.left").get_attribute("alt") == "plain"
    crops = page.locator("#beside img")
    assert crops.evaluate_all("images => images.map(image => image.alt)") == ["ground truth", "plain", "adjusted"]
    before = crops.nth(1).get_attribute("style")
    whole = page.locator("#scale").inner_text()
    page.locator("#view").hover()
    page.mouse.wheel(0, -600)
    assert page.locator("#scale").inner_text() != whole
    assert crops.nth(1).get_attribute("style") != before
    assert len(set(crops.evaluate_all("images => images.map(image => image.style.transform)"))) == 1
    page.locator("#wipe").fill("20")
    page.locator("#mode").check()
    assert found.evaluate("image => getComputedStyle(image).mixBlendMode") == "difference"
    page.locator("#fit").click()
    assert page.locator("#scale").inner_text() == whole
    if PICTURES:
        page.locator("#mode").uncheck()
        page.locator("#wipe").fill("50")
        page.screenshot(path=f"{PICTURES}/report.png")
    assert problems == []
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
    page.close()
