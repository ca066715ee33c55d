"""Transforms files as people have them: what is read, and with which values; what is refused, and with which words."""

from __future__ import annotations

import copy
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nerfstudio.cameras.camera_paths import get_spiral_path
from nerfstudio.cameras.cameras import CameraType
from nerfstudio.data.dataparsers.base_dataparser import DataParserConfig
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from nerfstudio.plugins.types import MethodSpecification
from PIL import Image

from iga_nerfstudio.nerf.datamanager import IGANerfDataManagerConfig
from iga_nerfstudio.nerf.dataparser import IGABlenderDataParserConfig
from iga_nerfstudio.nerf.method_configs import iga_nerf, iga_nerf_tiny, iga_nerfacto
from tests.nerf.scene_files import edit, edit_all, moved, parse, single_file

LENS = {"fl_x": 24.0, "fl_y": 36.0, "cx": 11.0, "cy": 6.0, "w": 24, "h": 24}
DISTORTION = {"k1": 0.1, "k2": -0.02, "p1": 0.003, "p2": -0.004}


@pytest.fixture
def copy_of_scene(scene: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(scene, tmp_path / "scene"))


class TestFilePaths:
    @pytest.mark.parametrize(
        "name",
        [
            "train/r_{i}.png",
            "./train/r_{i}.png",
            ".\\train\\r_{i}.png",
            "{folder}/train/r_{i}",
            "{folder}/train/r_{i}.png",
            "/home/somebody/scene/train/r_{i}.png",
            "C:\\Users\\somebody\\scene\\train\\r_{i}.png",
            "../scene/train/r_{i}.png",
        ],
    )
    def test_are_found(self, copy_of_scene: Path, name: str) -> None:
        expected = [path.resolve() for path in parse(copy_of_scene).image_filenames]
        edit_all(copy_of_scene, lambda frame, i: frame | {"file_path": name.format(i=i, folder=copy_of_scene)})
        assert [path.resolve() for path in parse(copy_of_scene).image_filenames] == expected

    @pytest.mark.parametrize("name", ["./train/r_{i}", "train/r_{i}.jpg"])
    @pytest.mark.parametrize("factor", [1, 2])
    def test_jpegs_are_read(self, copy_of_scene: Path, name: str, factor: int) -> None:
        for path in (copy_of_scene / "train").iterdir():
            Image.new("RGB", (24, 24), (255, 0, 0)).save(path.with_suffix(".jpg"))
            path.unlink()
        edit(copy_of_scene / "transforms_train.json", lambda frame, i: frame | {"file_path": name.format(i=i)})
        (first, *others) = parse(copy_of_scene, downscale_factor=factor).image_filenames
        assert len(others) == 15
        assert np.abs(np.asarray(Image.open(first), dtype=int) - (255, 0, 0)).max() <= 2

    @pytest.mark.parametrize("ending", [".JPG", ".TIF", ".webp", ".WEBP", ".avif", ".BMP", ".Jpg", ".Png"])
    def test_endings_need_not_be_named(self, copy_of_scene: Path, ending: str) -> None:
        for path in (copy_of_scene / "train").iterdir():
            path.rename(path.with_suffix(ending))
        assert {path.suffix for path in parse(copy_of_scene).image_filenames} == {ending}

    @pytest.mark.parametrize(("named", "there"), [(".png", ".PNG"), (".JPG", ".jpg"), (".jpg", ".Jpg")])
    def test_endings_need_not_be_spelled_as_named(self, copy_of_scene: Path, named: str, there: str) -> None:
        """As Windows and macOS leave it."""
        for path in (copy_of_scene / "train").iterdir():
            path.rename(path.with_suffix(there))
        edit(
            copy_of_scene / "transforms_train.json", lambda frame, _: frame | {"file_path": frame["file_path"] + named}
        )
        assert {path.suffix for path in parse(copy_of_scene).image_filenames} == {there}

    def test_one_of_another_ending_is_named(self, copy_of_scene: Path) -> None:
        (copy_of_scene / "train" / "r_3.png").rename(copy_of_scene / "train" / "r_3.exr")
        with pytest.raises(ValueError, match=r"^Frame 3 .*r_3.png, .*, is missing. There is r_3.exr.$"):
            parse(copy_of_scene)

    @pytest.mark.parametrize(
        ("named", "there"),
        [
            ("train/r%20{i}", "train/r {i}.png"),
            ("train/r {i}.png", "train/r%20{i}.png"),
            ("Train/R_{i}", "train/r_{i}.png"),
            ("train/r_{i}", "Train/R_{i}.PNG"),
            ("train/\u00e4_{i}", "train/a\u0308_{i}.png"),
            ("train/a\u0308_{i}.png", "train/\u00e4_{i}.png"),
            ("C:\\scene\\Train\\r%20{i}.png", "train/r {i}.png"),
        ],
    )
    def test_names_need_not_be_spelled_as_on_the_disk(self, copy_of_scene: Path, named: str, there: str) -> None:
        """As browsers, Windows and macOS leave them."""
        images = copy_of_scene / "train"
        images.rename(copy_of_scene / "moved")
        (copy_of_scene / there).parent.mkdir()
        for i in range(16):
            (copy_of_scene / "moved" / f"r_{i}.png").rename(copy_of_scene / there.format(i=i))
        edit(copy_of_scene / "transforms_train.json", lambda frame, i: frame | {"file_path": named.format(i=i)})
        assert parse(copy_of_scene).image_filenames == [copy_of_scene / there.format(i=i) for i in range(16)]

    def test_of_two_alike_none_is_guessed(self, copy_of_scene: Path) -> None:
        image = copy_of_scene / "train" / "r_3.png"
        shutil.copy(image, image.with_name("R_3.PNG"))
        assert parse(copy_of_scene).image_filenames[3] == image
        image.rename(image.with_name("R_3.png"))
        with pytest.raises(ValueError, match=r"^Frame 3 .*r_3.png, .*, is missing"):
            parse(copy_of_scene)

    def test_what_is_in_the_place_of_an_image_is_named(self, copy_of_scene: Path) -> None:
        image = copy_of_scene / "train" / "r_3.png"
        image.unlink()
        image.mkdir()
        with pytest.raises(ValueError, match=r"^Frame 3 .*r_3.png, named by the transforms file, is a folder.$"):
            parse(copy_of_scene)
        image.rmdir()
        image.symlink_to("/nowhere/r_3.png")
        with pytest.raises(ValueError, match=r"^Frame 3 .*r_3.png is a link to /nowhere/r_3.png, which is missing.$"):
            parse(copy_of_scene)
        (copy_of_scene / "train" / "r_5.png").unlink()
        with pytest.raises(ValueError, match=r"which is missing. So it is with 2 frames of 16.$"):
            parse(copy_of_scene)

    @pytest.mark.parametrize("factor", [1, 2])
    def test_one_image_in_several_frames(self, copy_of_scene: Path, factor: int) -> None:
        edit_all(copy_of_scene, lambda frame, i: frame | {"file_path": "./train/r_0"})
        outputs = parse(copy_of_scene, downscale_factor=factor)
        assert len(set(outputs.image_filenames)) == 1
        assert len(outputs.image_filenames) == len(outputs.cameras) == 16


class TestSplits:
    @pytest.mark.parametrize(("missing", "instead", "views"), [("val", "test", 3), ("test", "val", 2)])
    def test_one_stands_for_the_other(
        self, copy_of_scene: Path, missing: str, instead: str, views: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        (copy_of_scene / f"transforms_{missing}.json").unlink()
        assert len(parse(copy_of_scene, missing).cameras) == views
        assert f"has no transforms_{missing}.json: transforms_{instead}.json is used in its place." in caplog.text
        caplog.clear()
        parse(copy_of_scene, "train")
        assert not caplog.text

    @pytest.mark.parametrize("name", ["transforms.json", "transforms_train.json"])
    @pytest.mark.parametrize("as_file", [False, True])
    def test_of_a_single_file_every_8th_frame_is_kept(
        self, copy_of_scene: Path, name: str, as_file: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = single_file(copy_of_scene).rename(copy_of_scene / name)
        data = path if as_file else copy_of_scene
        names = {
            split: [path.stem for path in parse(data, split).image_filenames] for split in ("train", "val", "test")
        }
        assert names["val"] == names["test"] == ["r_0", "r_8"]
        assert names["train"] == [f"r_{i}" for i in range(16) if i % 8]
        assert f"{name} has no splits: 2 of its 16 frames, every 8th, are kept for evaluation." in caplog.text

    @pytest.mark.parametrize("name", ["train", "val", "test"])
    def test_one_file_of_a_scene_means_the_scene(
        self, copy_of_scene: Path, name: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        for split in ("train", "val", "test"):
            given = parse(copy_of_scene / f"transforms_{name}.json", split).image_filenames
            assert given == parse(copy_of_scene, split).image_filenames
        assert not caplog.text

    def test_of_another_kind_is_refused(self, copy_of_scene: Path, tmp_path: Path) -> None:
        (tmp_path / "scene.zip").write_bytes(b"PK")
        with pytest.raises(ValueError, match=r"scene.zip is no folder and no transforms file"):
            parse(tmp_path / "scene.zip")
        edit(copy_of_scene / "transforms_train.json", frames=[])
        with pytest.raises(ValueError, match=r"transforms_train.json lists no frames"):
            parse(copy_of_scene)

    def test_few_views_are_told(self, copy_of_scene: Path, caplog: pytest.LogCaptureFixture) -> None:
        """iga-nerf skips views by itself, which may leave a scene of somebody's own with one."""
        parse(copy_of_scene, "train", test_skip=8)
        parse(copy_of_scene, "test", test_skip=1)
        assert not caplog.text
        assert len(parse(copy_of_scene, "test", test_skip=8).cameras) == 1
        assert "1 of the 3 views of " in caplog.text
        assert "End the command with iga-blender --test-skip 1 to keep all." in caplog.text

    def test_masks_are_said_to_be_left_out(self, copy_of_scene: Path, caplog: pytest.LogCaptureFixture) -> None:
        edit_all(copy_of_scene, lambda frame, i: frame | {"mask_path": f"masks/{i}.png"})
        parse(copy_of_scene, "val")
        assert not caplog.text
        parse(copy_of_scene)
        assert "names masks, which iga-blender does not use" in caplog.text

    def test_lists_of_a_single_file_are_its_splits(self, copy_of_scene: Path) -> None:
        lists = {"train_filenames": ["./train/r_4", "train/r_5"], "val_filenames": ["./train/r_7"]}
        single_file(copy_of_scene, **lists)
        for split, names in {"train": ["r_4", "r_5"], "val": ["r_7"], "test": ["r_7"]}.items():
            assert [path.stem for path in parse(copy_of_scene, split).image_filenames] == names

    def test_poses_of_views_that_were_not_rendered(self, copy_of_scene: Path) -> None:
        """As Blender's add-ons write them for a test split."""
        shutil.rmtree(copy_of_scene / "test")
        with pytest.raises(ValueError, match=r"r_0.png, .* is missing. So it is with 3 frames of 3. Render them"):
            parse(copy_of_scene, "test")
        (copy_of_scene / "transforms_test.json").unlink()
        assert len(parse(copy_of_scene, "test").cameras) == 2

    @pytest.mark.parametrize("others", [0, 2])
    def test_a_folder_of_scenes_is_none(self, copy_of_scene: Path, others: int) -> None:
        for i in range(others):
            shutil.copytree(copy_of_scene, copy_of_scene.parent / f"scene_{i}")
        more = f", or one of {others} others there" if others else ""
        with pytest.raises(ValueError, match=rf"Give a scene's own folder: --data {copy_of_scene}{more}\.$"):
            parse(copy_of_scene.parent)

    def test_one_frame_is_too_few(self, copy_of_scene: Path) -> None:
        path = single_file(copy_of_scene)
        edit(path, frames=json.loads(path.read_text())["frames"][:1])
        with pytest.raises(ValueError, match=r"transforms.json holds 1 frames, none of them for the split train"):
            parse(copy_of_scene)


class TestCameras:
    def test_of_camera_angle_x_alone(self, copy_of_scene: Path) -> None:
        cameras = parse(copy_of_scene).cameras
        assert float(cameras.fx[0]) == float(cameras.fy[0]) == pytest.approx(12 / math.tan(0.6911112 / 2))
        assert (float(cameras.cx[0]), float(cameras.cy[0])) == (12, 12)
        assert cameras.distortion_params is None
        assert cameras.fx.dtype == cameras.camera_to_worlds.dtype == torch.float32

    @pytest.mark.parametrize("per_frame", [False, True])
    def test_lens_of_the_file_or_of_each_frame(self, copy_of_scene: Path, per_frame: bool) -> None:
        if per_frame:
            edit_all(copy_of_scene, lambda frame, i: frame | LENS | {"fl_x": 24.0 + i})
        else:
            edit_all(copy_of_scene, **LENS)
        for factor in (1, 2):
            cameras = parse(copy_of_scene, downscale_factor=factor).cameras
            got = [float(value[2]) * factor for value in (cameras.fx, cameras.fy, cameras.cx, cameras.cy)]
            assert got == [26.0 if per_frame else 24.0, 36.0, 11.0, 6.0]
            assert int(cameras.width[2]) * factor == int(cameras.height[2]) * factor == 24

    @pytest.mark.parametrize("per_frame", [False, True])
    @pytest.mark.parametrize("model", ["OPENCV", "OPENCV_FISHEYE"])
    def test_rays_are_those_of_nerfstudios_parser(self, copy_of_scene: Path, per_frame: bool, model: str) -> None:
        lens = LENS | DISTORTION
        path = single_file(copy_of_scene, camera_model=model, **({} if per_frame else lens))
        if per_frame:
            edit(path, lambda frame, i: frame | lens | {"k1": 0.01 * i, "cx": 11.0 + i})
        edit(path, lambda frame, i: frame | {"file_path": f"train/r_{i}.png"})
        lists = [f"train/r_{i}.png" for i in range(10)]
        edit(path, train_filenames=lists, val_filenames=lists, test_filenames=lists)
        settings: Any = {"orientation_method": "none", "center_method": "none", "auto_scale_poses": False}
        theirs = NerfstudioDataParserConfig(data=copy_of_scene, **settings).setup().get_dataparser_outputs("train")
        ours = parse(copy_of_scene)
        assert ours.image_filenames == theirs.image_filenames
        for i in (0, 3, 9):
            a, b = (outputs.cameras.generate_rays(i, keep_shape=True) for outputs in (ours, theirs))
            assert torch.equal(a.origins, b.origins)
            assert torch.equal(a.directions, b.directions)
        straight = parse(copy_of_scene).cameras
        straight.distortion_params = None
        assert not torch.allclose(straight.generate_rays(3, keep_shape=True).directions, b.directions, atol=1e-4)

    @pytest.mark.parametrize(
        ("shared", "focal"),
        [
            ({"camera_angle_y": 0.5}, (12 / math.tan(0.6911112 / 2), 12 / math.tan(0.25))),
            ({"camera_angle_x": None, "camera_angle_y": 0.5}, (12 / math.tan(0.25),) * 2),
            ({"fl_y": 30.0}, (12 / math.tan(0.6911112 / 2), 30.0)),
            ({"fl_x": 30.0}, (30.0, 30.0)),
        ],
    )
    def test_focal_lengths(self, copy_of_scene: Path, shared: dict[str, Any], focal: tuple[float, float]) -> None:
        edit_all(copy_of_scene, **shared)
        cameras = parse(copy_of_scene).cameras
        assert (float(cameras.fx[0]), float(cameras.fy[0])) == pytest.approx(focal)

    def test_instant_ngps_fisheye(self, copy_of_scene: Path) -> None:
        edit_all(copy_of_scene, is_fisheye=True)
        assert set(parse(copy_of_scene).cameras.camera_type.flatten().tolist()) == {CameraType.FISHEYE.value}

    def test_a_spiral_can_be_flown(self, copy_of_scene: Path) -> None:
        assert get_spiral_path(parse(copy_of_scene, "test").cameras[0:1], steps=3, radius=0.1).shape == (3,)

    def test_three_rows_are_a_pose(self, copy_of_scene: Path) -> None:
        expected = parse(copy_of_scene).cameras.camera_to_worlds
        edit_all(copy_of_scene, lambda frame, i: frame | {"transform_matrix": frame["transform_matrix"][:3]})
        assert torch.equal(parse(copy_of_scene).cameras.camera_to_worlds, expected)

    def test_poses_may_be_rounded(self, copy_of_scene: Path) -> None:
        edit_all(copy_of_scene, lambda frame, i: frame | {"transform_matrix": rounded(frame["transform_matrix"], 3)})
        assert len(parse(copy_of_scene).cameras) == 16

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
    def test_letters_of_any_language(self, copy_of_scene: Path, encoding: str) -> None:
        (copy_of_scene / "train" / "r_0.png").rename(copy_of_scene / "train" / "Ansicht_ä日.png")
        path = copy_of_scene / "transforms_train.json"
        meta = json.loads(path.read_text())
        meta["frames"][0]["file_path"] = "./train/Ansicht_ä日"
        path.write_text(json.dumps(meta, ensure_ascii=False), encoding=encoding)
        assert parse(copy_of_scene).image_filenames[0].name == "Ansicht_ä日.png"

    def test_views_of_their_own_sizes(self, copy_of_scene: Path) -> None:
        Image.new("RGB", (30, 20), (255, 0, 0)).save(copy_of_scene / "train" / "r_3.png")
        sizes = [(30, 20) if i == 3 else (24, 24) for i in range(16)]
        edit(copy_of_scene / "transforms_train.json", lambda f, i: f | {"w": sizes[i][0], "h": sizes[i][1]})
        cameras = parse(copy_of_scene).cameras
        assert (int(cameras.width[3]), int(cameras.height[3]), float(cameras.cx[3])) == (30, 20, 15.0)
        config = IGANerfDataManagerConfig(data=copy_of_scene, dataparser=IGABlenderDataParserConfig())
        config.train_num_rays_per_batch = 320
        rays, batch = config.setup().next_train(1000)
        red = batch["image"][batch["indices"][:, 0] == 3]
        assert len(red) == 20
        assert torch.equal(red, torch.tensor([1.0, 0.0, 0.0]).expand(20, 3))
        assert rays.shape == (320,)


def rounded(matrix: list[list[float]], digits: int) -> list[list[float]]:
    return np.round(matrix, digits).tolist()


def transposed(matrix: list[list[float]]) -> list[list[float]]:
    return np.transpose(matrix).tolist()


def times(*factors: float) -> Any:
    return lambda matrix: (np.array(matrix) @ np.diag([*factors, 1.0])).tolist()


class TestRefusals:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda matrix: [[math.nan] * 4, *matrix[1:]], "has entries that are not finite numbers"),
            (lambda matrix: [[-math.inf, math.inf, math.inf, -math.inf]] * 3 + [[0, 0, 0, 1]], "not finite"),
            (lambda matrix: [[*matrix[0][:3], 1e39], *matrix[1:]], "not finite"),
            (lambda matrix: [[10**400, *matrix[0][1:]], *matrix[1:]], "not finite"),
            (transposed, r"ends with the row \[.*\] instead of \[0, 0, 0, 1\]: it is transposed"),
            (times(2, 2, 2), r"is not rigid: .* lengths are \[2.0, 2.0, 2.0\]"),
            (times(1, 1, 1.1), "is not rigid"),
            (lambda matrix: [[row[0] + 0.2 * row[1], *row[1:]] for row in matrix], "is not rigid"),
            (lambda matrix: [[0, 0, 0, 0]] * 3 + [[0, 0, 0, 1]], "is not rigid"),
            (times(1, -1, 1), "is a mirror image, of determinant -1"),
            (lambda matrix: matrix[:2], "lacks a transform_matrix of 4x4 or 3x4 numbers"),
            (lambda matrix: None, "lacks a transform_matrix"),
            (lambda matrix: [["a"] * 4] * 4, "lacks a transform_matrix"),
            (lambda matrix: [" ".join(map(str, row)) for row in matrix], r"4x4 or 3x4 numbers, got \['"),
        ],
    )
    def test_poses_with_their_frame(self, copy_of_scene: Path, change: Any, message: str) -> None:
        def frame(one: dict[str, Any], i: int) -> dict[str, Any]:
            return one | {"transform_matrix": change(one["transform_matrix"])} if i == 5 else one

        edit(copy_of_scene / "transforms_train.json", frame)
        with pytest.raises(ValueError, match=rf"^Frame 5 \(./train/r_5\) of .*transforms_train.json:? .*{message}"):
            parse(copy_of_scene)

    def test_frames_are_numbered_as_in_their_file(self, copy_of_scene: Path) -> None:
        path = single_file(copy_of_scene)
        edit(path, lambda frame, i: moved(frame, math.nan) if i == 8 else frame)
        parse(copy_of_scene)
        with pytest.raises(ValueError, match=r"^Frame 8 \(./train/r_8\)"):
            parse(copy_of_scene, "val")

    @pytest.mark.parametrize("angle", [0.0, math.pi, -0.69, 39.6, math.nan, math.inf, "0.69"])
    @pytest.mark.parametrize("name", ["camera_angle_x", "camera_angle_y"])
    def test_angles(self, copy_of_scene: Path, name: str, angle: Any) -> None:
        edit_all(copy_of_scene, **{name: angle})
        with pytest.raises(ValueError, match=rf"^Frame 0 \(./train/r_0\) of .*: {name} must"):
            parse(copy_of_scene)

    @pytest.mark.parametrize("focal", [0.0, -30.0, math.inf])
    def test_focal_lengths(self, copy_of_scene: Path, focal: float) -> None:
        edit(copy_of_scene / "transforms_train.json", lambda frame, i: frame | {"fl_x": focal} if i == 4 else frame)
        with pytest.raises(ValueError, match=r"^Frame 4 \(./train/r_4\) of .*: fl_x must"):
            parse(copy_of_scene)

    @pytest.mark.parametrize(("key", "focal"), [("fl_x", 1.1), ("fl_y", 1.1), ("fl_x", 3.1)])
    def test_focal_lengths_of_another_unit(self, copy_of_scene: Path, key: str, focal: float) -> None:
        """Shares of the width, and millimetres."""
        edit_all(copy_of_scene, **{key: focal})
        message = (
            rf"^Frame 0 .*: {key} is {focal}, an angle of view of 1\d\d degrees in an image of 24 pixels.* in pixels"
        )
        with pytest.raises(ValueError, match=message):
            parse(copy_of_scene)
        # An angle is what it says, and no other kind of camera is bound to a plane.
        edit_all(copy_of_scene, **{key: None, f"camera_angle_{key[-1]}": 2.7})
        parse(copy_of_scene)
        edit_all(copy_of_scene, **{key: focal}, camera_model="ORTHOPHOTO")
        parse(copy_of_scene)

    @pytest.mark.parametrize(
        ("key", "value", "message"),
        [
            ("fl_x", 10**400, r"fl_x must be a finite number, got 10+\.\.\.0+\."),
            ("fl_x", 1e39, r"fl_x must be a finite number, got 1e\+39"),
            ("cx", 49, "cx is 49, far outside an image of 24 pixels"),
            ("cy", -25.5, "cy is -25.5, far outside an image of 24 pixels"),
            ("distortion_params", ["a"] * 6, r"distortion_params must be the numbers k1, .*, got \['a'"),
            ("distortion_params", [[0], [1, 2]], "distortion_params must be the numbers"),
            ("distortion_params", "none", "distortion_params must be the numbers k1, .*, got 'none'"),
            ("distortion_params", [10**400] * 6, "distortion_params must be the numbers"),
            ("camera_model", ["OPENCV"], r"camera_model \['OPENCV'\] is not among"),
        ],
    )
    def test_values_of_another_kind_or_size(self, copy_of_scene: Path, key: str, value: Any, message: str) -> None:
        edit(copy_of_scene / "transforms_train.json", lambda frame, i: frame | {key: value} if i == 4 else frame)
        with pytest.raises(ValueError, match=rf"^Frame 4 \(./train/r_4\) of .*: {message}") as raised:
            parse(copy_of_scene)
        assert len(str(raised.value)) < 500

    def test_splits_that_are_no_lists(self, copy_of_scene: Path) -> None:
        single_file(copy_of_scene, train_filenames=[1])
        with pytest.raises(ValueError, match=r"transforms.json: train_filenames must list file paths, got \[1\]"):
            parse(copy_of_scene)

    def test_no_focal_length(self, copy_of_scene: Path) -> None:
        edit_all(copy_of_scene, camera_angle_x=None)
        with pytest.raises(
            ValueError, match=r"^Frame 0 .* has no focal length: the file lacks camera_angle_x and fl_x"
        ):
            parse(copy_of_scene)

    def test_images_that_do_not_fit_w_and_h(self, copy_of_scene: Path) -> None:
        edit_all(copy_of_scene, w=48, h=24)
        with pytest.raises(ValueError, match=r"^Frame 0 .*r_0.png has 24x24 pixels, but w and h are 48 and 24"):
            parse(copy_of_scene)

    def test_a_pixel_that_a_percentage_cut_off(self, copy_of_scene: Path) -> None:
        edit_all(copy_of_scene, w=24.9, h=24.36)
        assert int(parse(copy_of_scene).cameras.width[0]) == 24
        edit_all(copy_of_scene, w=25)
        with pytest.raises(ValueError, match=r"24x24 pixels, but w and h are 25 and 24\.36"):
            parse(copy_of_scene)

    def test_unknown_camera_models(self, copy_of_scene: Path) -> None:
        edit_all(copy_of_scene, camera_model="MAGIC")
        with pytest.raises(ValueError, match=r"^Frame 0 .*camera_model 'MAGIC' is not among .*OPENCV"):
            parse(copy_of_scene)


@pytest.mark.parametrize(
    "method", [iga_nerf, iga_nerf_tiny, iga_nerfacto], ids=lambda method: method.config.method_name
)
class TestFoldersOfAnotherKind:
    def set_up(self, method: MethodSpecification, data: Path, parser: DataParserConfig | None = None) -> Any:
        """A method's pipeline; by the parser nerfstudio-data if not said otherwise."""
        config: Any = copy.deepcopy(method.config.pipeline)
        config.datamanager.data = data
        config.datamanager.dataparser = parser or NerfstudioDataParserConfig()
        return config.setup(device="cpu", test_mode="test")

    def test_blender_for_nerfstudio_data(self, method: MethodSpecification, scene: Path) -> None:
        with pytest.raises(ValueError, match=r"is a Blender scene .* Add iga-blender at the end of the command"):
            self.set_up(method, scene)

    def test_angles_for_nerfstudio_data(self, method: MethodSpecification, copy_of_scene: Path) -> None:
        single_file(copy_of_scene)
        with pytest.raises(
            ValueError, match=r"transforms.json has no fl_x.* Add iga-blender at the end of the command"
        ):
            self.set_up(method, copy_of_scene)

    def test_colmaps_own(self, method: MethodSpecification, tmp_path: Path) -> None:
        (tmp_path / "sparse" / "0").mkdir(parents=True)
        for parser in (NerfstudioDataParserConfig(), IGABlenderDataParserConfig()):
            with pytest.raises(ValueError, match=r"looks like COLMAP's: add the parser colmap .* nerfstudio-data"):
                self.set_up(method, tmp_path, parser)

    def test_missing(self, method: MethodSpecification, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"nowhere does not exist. Give a scene's folder with --data"):
            self.set_up(method, tmp_path / "nowhere")

    def test_a_scene_of_nerfstudio_data_is_read(self, method: MethodSpecification, copy_of_scene: Path) -> None:
        path = single_file(copy_of_scene, **LENS)
        edit(path, lambda frame, i: frame | {"file_path": f"train/r_{i}.png"})
        assert len(self.set_up(method, copy_of_scene).datamanager.train_dataset) == 15
