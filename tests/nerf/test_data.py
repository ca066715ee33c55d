"""Data parser, pixel sampler and schedule."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from nerfstudio.data.datasets.base_dataset import InputDataset
from PIL import Image

from iga_nerfstudio.nerf.datamanager import SingleImagePixelSamplerConfig
from iga_nerfstudio.nerf.dataparser import IGABlenderDataParserConfig
from iga_nerfstudio.nerf.images import box_average
from iga_nerfstudio.nerf.nerfstudio_fixes.unreadable_views import named_where_unreadable
from iga_nerfstudio.nerf.schedulers import PowerDecaySchedulerConfig


def parse(data: Path, split: str = "train", **settings):
    return IGABlenderDataParserConfig(data=data, **settings).setup().get_dataparser_outputs(split=split)


@pytest.fixture
def copy_of_scene(scene: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(scene, tmp_path / "scene"))


def test_homes_are_read_where_no_shell_has(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert IGABlenderDataParserConfig(data=Path("~/scene")).data == tmp_path / "scene"


def test_half_resolution_and_test_skip(copy_of_scene):
    full, half = parse(copy_of_scene), parse(copy_of_scene, downscale_factor=2)
    assert len(half.image_filenames) == len(half.cameras) == 16
    assert float(half.cameras.fx[0, 0]) == pytest.approx(float(full.cameras.fx[0, 0]) / 2)
    assert int(half.cameras.width[0, 0]) == int(half.cameras.height[0, 0]) == 12
    assert Image.open(half.image_filenames[0]).size == (12, 12)
    assert torch.equal(half.cameras.camera_to_worlds, full.cameras.camera_to_worlds)
    skipped = parse(copy_of_scene, "test", test_skip=2)
    assert [path.name for path in skipped.image_filenames] == ["r_0.png", "r_2.png"]
    assert len(skipped.cameras) == 2
    assert torch.equal(skipped.cameras.camera_to_worlds[1], parse(copy_of_scene, "test").cameras.camera_to_worlds[2])
    assert len(parse(copy_of_scene, "train", test_skip=2).image_filenames) == 16


def test_small_images_average_what_is_seen_on_any_background():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (8, 8, 4), dtype=np.uint8)
    pixels[..., 3] = rng.choice([0, 128, 255], (8, 8))
    for background in (0.0, 255.0):

        def composite(image, background=background):
            alpha = image[..., 3:] / 255.0
            return image[..., :3] * alpha + background * (1 - alpha)

        expected = composite(pixels.astype(float)).reshape(4, 2, 4, 2, 3).mean((1, 3))
        assert np.abs(composite(box_average(pixels, 2).astype(float)) - expected).max() < 1.5
    grey = rng.integers(0, 256, (6, 6), dtype=np.uint8)
    assert box_average(grey, 3).shape == (2, 2)


def test_small_images_are_kept_and_renewed(copy_of_scene):
    path = parse(copy_of_scene, downscale_factor=2).image_filenames[0]
    made = path.stat().st_mtime_ns
    assert parse(copy_of_scene, downscale_factor=2).image_filenames[0].stat().st_mtime_ns == made
    source = copy_of_scene / "train" / "r_0.png"
    Image.new("RGBA", (24, 24), (255, 0, 0, 255)).save(source)
    renewed = parse(copy_of_scene, downscale_factor=2).image_filenames[0]
    assert Image.open(renewed).getpixel((3, 3)) == (255, 0, 0, 255)
    assert not list(copy_of_scene.rglob("tmp*"))


class TestBadData:
    def test_missing_folder(self, tmp_path):
        with pytest.raises(ValueError, match=r"nowhere does not exist. Give a scene's folder with --data"):
            parse(tmp_path / "nowhere")

    def test_empty_folder(self, tmp_path):
        with pytest.raises(ValueError, match=r"transforms_train.json is missing from .* which is empty"):
            parse(tmp_path)

    def test_folder_of_something_else(self, tmp_path):
        (tmp_path / "holiday.jpg").touch()
        with pytest.raises(ValueError, match=r"which has holiday.jpg"):
            parse(tmp_path)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("{", "no valid JSON"),
            ("{}", "lacks camera_angle_x or frames"),
            ('{"camera_angle_x": 0.7, "frames": []}', "lists no frames"),
            ('{"camera_angle_x": 0.7, "frames": {"0": {}}}', r"frames must be a list, got \{'0': "),
            ('{"camera_angle_x": 0.7, "frames": [{"file_path": "./train/r_0"}]}', "Frame 0"),
        ],
    )
    def test_broken_transforms(self, copy_of_scene, content, message):
        (copy_of_scene / "transforms_train.json").write_text(content)
        with pytest.raises(ValueError, match=message):
            parse(copy_of_scene)

    def test_missing_image(self, copy_of_scene):
        (copy_of_scene / "train" / "r_3.png").unlink()
        with pytest.raises(ValueError, match=r"r_3.png, named by the transforms file, is missing"):
            parse(copy_of_scene)

    def test_truncated_image(self, copy_of_scene):
        path = copy_of_scene / "train" / "r_5.png"
        path.write_bytes(path.read_bytes()[:-200])
        with pytest.raises(ValueError, match=r"r_5.png cannot be read, it is truncated or no image"):
            parse(copy_of_scene)

    def test_not_an_image(self, copy_of_scene):
        (copy_of_scene / "train" / "r_5.png").write_text("hello")
        with pytest.raises(ValueError, match=r"r_5.png cannot be read"):
            parse(copy_of_scene)

    def test_an_image_damaged_in_its_midst_is_named_when_it_is_loaded(self, copy_of_scene):
        path = copy_of_scene / "train" / "r_5.png"
        content = path.read_bytes()
        middle = content.index(b"IDAT") + 8
        path.write_bytes(content[:middle] + bytes(40) + content[middle + 40 :])
        views = InputDataset(parse(copy_of_scene))
        with named_where_unreadable():
            views.get_image_float32(4)
            with pytest.raises(ValueError, match=r"^The image .*r_5.png cannot be read: .*\. Copy or render it again"):
                views.get_image_float32(5)

    def test_sizes_that_differ(self, copy_of_scene):
        Image.new("RGBA", (20, 24)).save(copy_of_scene / "train" / "r_5.png")
        with pytest.raises(ValueError, match=r"r_5.png has 20x24 pixels where .*r_0.png has 24x24"):
            parse(copy_of_scene)

    def test_settings_out_of_range(self, copy_of_scene):
        for name in ("downscale_factor", "test_skip"):
            with pytest.raises(ValueError, match=f"{name} must be at least 1"):
                parse(copy_of_scene, "test", **{name: 0})
        with pytest.raises(ValueError, match="24x24 pixels cannot be shrunk by a factor of 5"):
            parse(copy_of_scene, downscale_factor=5)

    @pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
    def test_scales_out_of_range(self, copy_of_scene, scale):
        with pytest.raises(ValueError, match=rf"--scale-factor must be positive and finite, got {scale}"):
            parse(copy_of_scene, scale_factor=scale)

    def test_colours_that_nerfstudio_does_not_know(self, copy_of_scene):
        with pytest.raises(ValueError, match=r"--alpha-color must be None or one of white, .*, got #ff0000"):
            parse(copy_of_scene, alpha_color="#ff0000")
        assert parse(copy_of_scene, alpha_color="Black").alpha_color.tolist() == [0, 0, 0]

    def test_a_scene_without_test_views_says_so(self, copy_of_scene):
        meta = json.loads((copy_of_scene / "transforms_test.json").read_text())
        (copy_of_scene / "transforms_test.json").write_text(json.dumps(meta | {"frames": []}))
        with pytest.raises(ValueError, match=r"transforms_test.json lists no frames"):
            parse(copy_of_scene, "test")


class TestPixelSampler:
    def sampler(self, step: int | None, **settings):
        sampler = SingleImagePixelSamplerConfig(**settings).setup()
        sampler.step = step
        return sampler

    def test_one_image_without_repetition(self):
        torch.manual_seed(0)
        images = set()
        for _ in range(40):
            indices = self.sampler(None).sample_method(64, 5, 10, 12)
            assert indices.shape == (64, 3)
            assert len(indices[:, 0].unique()) == 1
            assert len({tuple(row) for row in indices.tolist()}) == 64
            assert int(indices[:, 1].max()) < 10
            assert int(indices[:, 2].max()) < 12
            images.add(int(indices[0, 0]))
        assert images == set(range(5))

    def test_more_rays_than_pixels(self):
        indices = self.sampler(None).sample_method(500, 1, 10, 12)
        assert len({tuple(row) for row in indices.tolist()}) > 100

    @pytest.mark.parametrize(("step", "cropped"), [(0, True), (499, True), (500, False), (None, False)])
    def test_centre_first(self, step, cropped):
        """The original NeRF's precrop: half the side, so rows 5..14 of 20, columns 10..29 of 40."""
        indices = self.sampler(step).sample_method(100000, 1, 20, 40)
        rows, columns = indices[:, 1].unique().tolist(), indices[:, 2].unique().tolist()
        assert rows == (list(range(5, 15)) if cropped else list(range(20)))
        assert columns == (list(range(10, 30)) if cropped else list(range(40)))

    def test_every_pixel_is_drawn_alike(self):
        torch.manual_seed(0)
        sampler = self.sampler(None)
        counts = torch.zeros(4, 5)
        for _ in range(4000):
            _, y, x = sampler.sample_method(5, 3, 4, 5).T
            counts[y, x] += 1
        assert (counts - 1000).abs().max() < 150


@pytest.mark.parametrize("fraction", [0.0, -1.0, 2.0, float("nan")])
def test_a_centre_is_a_share_of_the_image(fraction):
    with pytest.raises(ValueError, match=rf"crop-fraction is a share .* got {fraction}"):
        SingleImagePixelSamplerConfig(crop_fraction=fraction).setup()


@pytest.mark.parametrize(("rate", "steps"), [(0.1, 0), (0.1, -5), (0.0, 10), (-1.0, 10), (float("nan"), 10)])
def test_schedules_that_lead_nowhere_are_refused(rate, steps):
    scheduler = PowerDecaySchedulerConfig(decay_rate=rate, decay_steps=steps).setup()
    with pytest.raises(ValueError, match=rf"scheduler.decay-steps .* got {rate} and {steps}"):
        scheduler.get_scheduler(torch.optim.Adam([torch.zeros(1, requires_grad=True)]), 1.0)


def test_schedule_is_the_papers_and_survives_a_checkpoint(tmp_path):
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.Adam([parameter], lr=5e-4)
    scheduler = PowerDecaySchedulerConfig(decay_steps=100).setup().get_scheduler(optimiser, 5e-4)
    for _ in range(50):
        parameter.grad = torch.ones(1)
        optimiser.step()
        scheduler.step()
    assert optimiser.param_groups[0]["lr"] == pytest.approx(5e-4 * 0.1**0.5)
    assert type(optimiser.param_groups[0]["lr"]) is float
    torch.save([optimiser.state_dict(), scheduler.state_dict()], tmp_path / "state.pt")
    torch.load(tmp_path / "state.pt", weights_only=True)
