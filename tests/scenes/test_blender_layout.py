"""The folder that the scene is written to: contents, reuse, refusals and the command."""

from __future__ import annotations

import errno
import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from iga_nerfstudio.scenes import blender_layout, circle_cameras, cli, hemisphere_cameras, render_view, write_demo_scene

SMALL = {"resolution": 24, "num_train": 3, "num_val": 1, "num_test": 2}


def write(
    folder: Path, changes: dict[str, int] | None = None, on_view: blender_layout.ViewCallback | None = None
) -> Path:
    arguments = {**SMALL, **(changes or {})}
    return write_demo_scene(
        folder,
        resolution=arguments["resolution"],
        num_train=arguments["num_train"],
        num_val=arguments["num_val"],
        num_test=arguments["num_test"],
        on_view=on_view,
    )


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("scenes") / "new" / "demo")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def unreachable(*_: object) -> None:
    raise AssertionError("rendered although there was nothing to render")


class TestContents:
    def test_files(self, scene: Path) -> None:
        images = ["train/r_0.png", "train/r_1.png", "train/r_2.png", "val/r_0.png", "test/r_0.png", "test/r_1.png"]
        transforms = ["transforms_train.json", "transforms_val.json", "transforms_test.json"]
        assert set(contents(scene)) == {*images, *transforms, "scene.json"}

    @pytest.mark.parametrize(("split", "count"), [("train", 3), ("val", 1), ("test", 2)])
    def test_transforms(self, scene: Path, split: str, count: int) -> None:
        content = json.loads((scene / f"transforms_{split}.json").read_text())
        assert content["camera_angle_x"] == 0.6911112
        assert [frame["file_path"] for frame in content["frames"]] == [f"./{split}/r_{i}" for i in range(count)]
        for frame in content["frames"]:
            matrix = np.array(frame["transform_matrix"])
            assert matrix.shape == (4, 4)
            assert math.dist(matrix[:3, 3], (0, 0, 0)) == pytest.approx(4.0311)
            assert isinstance(frame["rotation"], float)

    def test_images_are_the_views_of_their_matrices(self, scene: Path) -> None:
        frame = json.loads((scene / "transforms_test.json").read_text())["frames"][1]
        image = Image.open(scene / f"{frame['file_path']}.png")
        assert image.mode == "RGBA"
        assert image.size == (24, 24)
        expected = render_view(np.array(frame["transform_matrix"]), 24, 0.6911112)
        assert_allclose(np.asarray(image) / 255.0, expected, atol=0.5 / 255.0 + 1e-9)
        assert_allclose(frame["transform_matrix"], circle_cameras(2)[1])

    def test_transparent_pixels_are_black(self, scene: Path) -> None:
        pixels = np.asarray(Image.open(scene / "train" / "r_2.png"))
        assert_array_equal(pixels[pixels[..., 3] == 0], 0)
        assert {0, 255} <= set(pixels[..., 3].ravel().tolist())

    def test_splits_show_different_views(self, tmp_path: Path) -> None:
        write_demo_scene(tmp_path, 8, num_train=2, num_val=2, num_test=2)
        positions = [
            np.array(frame["transform_matrix"])[:3, 3]
            for split in ("train", "val", "test")
            for frame in json.loads((tmp_path / f"transforms_{split}.json").read_text())["frames"]
        ]
        assert len(positions) == 6
        assert all(math.dist(a, b) > 0.5 for a, b in itertools.combinations(positions, 2))

    def test_a_second_folder_has_the_same_bytes(self, scene: Path, tmp_path: Path) -> None:
        assert contents(write(tmp_path)) == contents(scene)

    def test_splits_may_be_empty(self, tmp_path: Path) -> None:
        write_demo_scene(tmp_path, 8, num_train=1, num_val=0, num_test=0)
        assert json.loads((tmp_path / "transforms_val.json").read_text())["frames"] == []


class TestReuse:
    def test_a_complete_scene_is_kept(self, scene: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(blender_layout, "render_view", unreachable)
        before = {path: path.stat().st_mtime_ns for path in scene.rglob("*")}
        assert write(scene, on_view=unreachable) == scene
        assert {path: path.stat().st_mtime_ns for path in scene.rglob("*")} == before

    def test_an_interrupted_scene_is_rendered_again(self, scene: Path, tmp_path: Path) -> None:
        def interrupt(written: int, total: int) -> None:
            if written == 4:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            write(tmp_path, on_view=interrupt)
        assert not list(tmp_path.glob("transforms*"))
        assert contents(write(tmp_path)) == contents(scene)

    @pytest.mark.parametrize("missing", ["train/r_1.png", "transforms_val.json"])
    def test_a_missing_file_is_put_back(self, scene: Path, tmp_path: Path, missing: str) -> None:
        write(tmp_path)
        (tmp_path / missing).unlink()
        assert contents(write(tmp_path)) == contents(scene)

    def test_progress_is_reported(self, tmp_path: Path) -> None:
        calls: list[tuple[int, int]] = []
        write_demo_scene(tmp_path, 8, 2, 0, 1, on_view=lambda written, total: calls.append((written, total)))
        assert calls == [(0, 3), (1, 3), (2, 3), (3, 3)]

    def test_files_that_are_not_in_the_way_are_kept(self, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").write_text("mine")
        write_demo_scene(tmp_path, 8, 1, 0, 0)
        assert (tmp_path / "notes.txt").read_text() == "mine"


class TestRefusals:
    @pytest.mark.parametrize("name", ["transforms_train.json", "transforms.json", "train/r_0.png", "test/r_1.png"])
    def test_files_of_others_are_never_overwritten(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("precious")
        before = contents(tmp_path)
        with pytest.raises(ValueError, match=rf"{name} but no scene\.json"):
            write(tmp_path)
        assert contents(tmp_path) == before

    @pytest.mark.parametrize("marker", ["{}", "[1]", "not json", '{"scene": "lego"}', '{"scene": ["orrery"]}'])
    def test_foreign_markers_are_refused(self, tmp_path: Path, marker: str) -> None:
        (tmp_path / "scene.json").write_text(marker)
        with pytest.raises(ValueError, match=r"scene\.json was not written by this program"):
            write(tmp_path)
        assert contents(tmp_path) == {"scene.json": marker.encode()}

    def test_binary_markers_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "scene.json").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(ValueError, match="was not written by this program"):
            write(tmp_path)

    @pytest.mark.parametrize("name", list(SMALL))
    def test_other_arguments_are_refused(self, scene: Path, name: str) -> None:
        before = contents(scene)
        with pytest.raises(ValueError, match=rf"{name}={SMALL[name]}.*{name}={SMALL[name] + 1}"):
            write(scene, {name: SMALL[name] + 1})
        assert contents(scene) == before

    def test_other_scenes_are_refused(self, tmp_path: Path) -> None:
        for scene, other in itertools.permutations(["lighthouse", "orrery"]):
            write_demo_scene(tmp_path / scene, 8, 1, 0, 0, scene=scene)
            assert json.loads((tmp_path / scene / "scene.json").read_text())["scene"] == scene
            before = contents(tmp_path / scene)
            with pytest.raises(ValueError, match=rf"holds the scene {scene} made with .*, but {other} made with"):
                write_demo_scene(tmp_path / scene, 8, 1, 0, 0, scene=other)
            assert contents(tmp_path / scene) == before

    def test_unknown_scenes_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="one of lighthouse, orrery, but it is 'lego'"):
            write_demo_scene(tmp_path / "demo", scene="lego")
        assert not (tmp_path / "demo").exists()

    @pytest.mark.parametrize(
        ("name", "value", "minimum"),
        [("resolution", 7, 8), ("resolution", -1, 8), ("num_train", 0, 1), ("num_val", -1, 0), ("num_test", -5, 0)],
    )
    def test_numbers_out_of_range(self, tmp_path: Path, name: str, value: int, minimum: int) -> None:
        with pytest.raises(ValueError, match=rf"{name} must be at least {minimum}, but it is {value}"):
            write(tmp_path / "demo", {name: value})
        assert not (tmp_path / "demo").exists()

    def test_fractions(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"resolution must be a whole number, but it is 24\.5"):
            write_demo_scene(tmp_path, 24.5)  # pyright: ignore[reportArgumentType]

    def test_output_dir_is_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "demo").write_text("precious")
        with pytest.raises(ValueError, match="demo is a file"):
            write(tmp_path / "demo")
        assert (tmp_path / "demo").read_text() == "precious"

    def test_output_dir_below_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("precious")
        with pytest.raises(ValueError, match=r"Cannot write the scene to .*Choose a folder"):
            write(tmp_path / "file" / "demo")

    @pytest.mark.parametrize("code", [errno.EACCES, errno.ENOSPC])
    def test_failing_writes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
        def fail(self: Path, data: bytes) -> int:
            raise OSError(code, "reason given by the system")

        monkeypatch.setattr(Path, "write_bytes", fail)
        with pytest.raises(ValueError, match=r"Cannot write .* reason given by the system"):
            write(tmp_path)
        assert contents(tmp_path) == {}


class TestCommand:
    def test_writes_then_reuses(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        args = ["--output-dir", str(tmp_path / "demo"), "--resolution", "8", "--num-train", "2"]
        args += ["--num-val", "0", "--num-test", "1"]
        cli.main(args)
        assert capsys.readouterr().out == f"Wrote {tmp_path / 'demo'}\n"
        cli.main(args)
        assert capsys.readouterr().out == f"Already complete: {tmp_path / 'demo'}\n"
        assert len(list((tmp_path / "demo").rglob("*.png"))) == 3

    def test_the_scene_is_chosen_by_name(self, tmp_path: Path) -> None:
        args = ["--resolution", "24", "--num-train", "1", "--num-val", "0", "--num-test", "0"]
        cli.main([*args, "--output-dir", str(tmp_path), "--scene", "orrery"])
        view = np.asarray(Image.open(tmp_path / "train" / "r_0.png")) / 255.0
        expected = render_view(hemisphere_cameras(1)[0], 24, scene="orrery")
        assert_allclose(view, expected, atol=0.5 / 255.0 + 1e-9)

    def test_a_folder_says_how_it_was_made(self, tmp_path: Path) -> None:
        numbers = {"resolution": 9, "num_train": 2, "num_val": 0, "num_test": 1}
        first = write_demo_scene(tmp_path / "first", scene="orrery", **numbers)
        name, *words = str(blender_layout.command_of(first)).split()
        assert name == "iga-scene"
        cli.main([*words, "--output-dir", str(tmp_path / "second")])
        assert contents(tmp_path / "second") == contents(first)
        (first / "scene.json").write_text('{"scene": "of another program"}')
        assert blender_layout.command_of(first) is None
        assert blender_layout.command_of(tmp_path) is None

    def test_errors_are_one_line(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as caught:
            cli.main(["--output-dir", str(tmp_path), "--resolution", "4"])
        assert caught.value.code == 2
        message = "iga-scene: resolution must be at least 8, but it is 4. Pass a larger number.\n"
        assert capsys.readouterr().err.lstrip() == message

    @pytest.mark.parametrize(("args", "hint"), [(["--size", "100"], "--size"), (["--scene", "lego"], "orrery")])
    def test_unknown_options_are_status_2(self, capsys: pytest.CaptureFixture[str], args: list[str], hint: str) -> None:
        with pytest.raises(SystemExit) as caught:
            cli.main(args)
        assert caught.value.code == 2
        assert hint in capsys.readouterr().err
