"""Near, far and the network's unit: the paper's on a Blender scene, else what the cameras ask for, or a refusal."""

from __future__ import annotations

import copy
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from nerfstudio.pipelines.base_pipeline import VanillaPipeline
from torch import Tensor

from iga_nerfstudio.nerf.datamanager import SingleImagePixelSamplerConfig
from iga_nerfstudio.nerf.method_configs import iga_nerf_tiny
from iga_nerfstudio.nerf.near_far import SceneBounds, find_bounds
from iga_nerfstudio.scenes.render import CAMERA_DISTANCE, hemisphere_cameras
from tests.nerf.conftest import train
from tests.nerf.scene_files import edit, edit_all, moved, single_file

MakeScene = Callable[..., Path]
Shift = tuple[float, float, float]
PLANES = "--pipeline.model.collider-params near_plane N far_plane F"


def around(radius: float, centre: Shift = (0.0, 0.0, 0.0)) -> Tensor:
    """20 cameras that look at a point from a distance, ``(20, 3, 4)``."""
    poses = torch.from_numpy(hemisphere_cameras(20))[:, :3].clone()
    poses[:, :, 3] = poses[:, :, 3] * (radius / CAMERA_DISTANCE) + torch.tensor(centre)
    return poses.float()


@pytest.fixture
def make_scene(scene: Path, tmp_path: Path) -> MakeScene:
    """The tiny scene in a world scaled, then shifted."""

    def make(scale: float, shift: Shift = (0.0, 0.0, 0.0)) -> Path:
        target = Path(shutil.copytree(scene, tmp_path / f"scene_{scale}"))
        edit_all(target, lambda frame, i: moved(frame, scale, shift))
        return target

    return make


def make_pipeline(
    data: Path, planes: dict[str, float] | None = None, parser: Any = None, sampler: Any = None
) -> VanillaPipeline:
    """A tiny ``iga-nerf-tiny`` on a scene."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    config: Any = copy.deepcopy(iga_nerf_tiny.config.pipeline)
    config.datamanager.data, config.datamanager.train_num_rays_per_batch = data, 48
    config.datamanager.dataparser = parser or config.datamanager.dataparser
    config.datamanager.pixel_sampler = sampler or config.datamanager.pixel_sampler
    model = config.model
    model.num_coarse_samples, model.num_importance_samples, model.hidden_dim, model.adjustment.end = 8, 8, 24, 6
    model.collider_params = planes
    pipeline = config.setup(device="cpu", test_mode="val")
    pipeline.train()
    return pipeline


class TestBounds:
    @pytest.mark.parametrize("radius", [3.1, 4.0, CAMERA_DISTANCE, 4.9])
    def test_of_blender_scenes_are_the_papers(self, radius: float, caplog: pytest.LogCaptureFixture) -> None:
        assert find_bounds(around(radius), None) == SceneBounds(2.0, 6.0, (0.0, 0.0, 0.0), 1.0)
        assert not caplog.text

    @pytest.mark.parametrize("radius", [0.3, 1.0, 350.0])
    @pytest.mark.parametrize("centre", [(0.0, 0.0, 0.0), (50.0, -3.0, 8.0)])
    def test_of_others_have_the_papers_proportions(
        self, radius: float, centre: Shift, caplog: pytest.LogCaptureFixture
    ) -> None:
        bounds = find_bounds(around(radius, centre), None)
        expected = (radius / 2, radius * 1.5, *centre, 4 / radius)
        assert (bounds.near, bounds.far, *bounds.centre, bounds.scale) == pytest.approx(expected, rel=1e-4, abs=1e-4)
        assert f"stand {radius:.3g} to {radius:.3g} from the point that they look at" in caplog.text
        assert f"near is {radius / 2:.3g} and far {radius * 1.5:.3g} instead of 2 and 6" in caplog.text
        assert PLANES in caplog.text
        assert caplog.text.count("\n") == 1

    def test_reach_from_the_nearest_to_the_farthest_camera(self) -> None:
        poses = torch.cat([around(1.0), around(3.0)])
        bounds = find_bounds(poses, None)
        assert (bounds.near, bounds.far, bounds.scale) == pytest.approx((0.5, 4.5, 6 / 4.5), rel=1e-4)

    def test_bear_with_cameras_that_are_held_by_hand(self) -> None:
        """Distances that differ, and axes that miss the point by up to 15 degrees."""
        generator = torch.Generator().manual_seed(0)
        poses = around(1.0)
        poses[:, :, 3] *= 0.5 + torch.rand(20, 1, generator=generator)
        poses[:, :, 2] += 0.15 * torch.randn(20, 3, generator=generator)
        bounds = find_bounds(poses, None)
        distances = poses[:, :, 3].norm(dim=-1)
        assert torch.tensor(bounds.centre).norm() < 0.15
        assert bounds.near < 0.7 * distances.min()
        assert bounds.far > 1.2 * distances.max()

    @pytest.mark.parametrize("kind", ["outward", "parallel", "one"])
    def test_that_cannot_be_told_are_refused(self, kind: str) -> None:
        poses = around(0.8)
        if kind == "outward":
            poses[:, :, [0, 2]] *= -1
        elif kind == "parallel":
            poses[:, :, :3] = torch.eye(3) + 0.05 * torch.randn(20, 3, 3, generator=torch.Generator().manual_seed(0))
        else:
            poses = poses[:1]
        message = rf"stand 0.8 to 0.8 from the origin.* Set {PLANES}, .* or use iga-nerfacto with nerfstudio-data"
        with pytest.raises(ValueError, match=message):
            find_bounds(poses, None)
        bounds = find_bounds(poses, {"near_plane": 0.1, "far_plane": 3.0})
        assert (bounds.near, bounds.far, bounds.scale) == (0.1, 3.0, 2.0)

    def test_planes_that_are_set_are_kept(self) -> None:
        planes = {"near_plane": 1.0, "far_plane": 9.0}
        assert find_bounds(around(4.0), planes) == SceneBounds(1.0, 9.0)
        bounds = find_bounds(around(350.0), {"near_plane": 200.0, "far_plane": 525.0})
        assert (bounds.near, bounds.far, bounds.scale) == (200.0, 525.0, 6 / 525)

    @pytest.mark.parametrize("planes", [(6.0, 2.0), (3.0, 3.0), (-1.0, 6.0), (float("nan"), 6.0), (1.0, float("inf"))])
    def test_planes_that_are_no_range_are_refused(self, planes: tuple[float, float]) -> None:
        with pytest.raises(ValueError, match="are no range"):
            find_bounds(None, dict(zip(("near_plane", "far_plane"), planes, strict=True)))

    @pytest.mark.parametrize("planes", [{"near_plane": 1.0}, {"near": 1.0, "far": 3.0}])
    def test_planes_by_other_names_are_refused(self, planes: dict[str, float]) -> None:
        with pytest.raises(ValueError, match=rf"near_plane and far_plane, got {', '.join(planes)}. Set {PLANES}"):
            find_bounds(None, planes)


class TestModel:
    def test_on_a_blender_scene_is_the_papers(self, scene: Path) -> None:
        model = make_pipeline(scene).model
        assert model.bounds == SceneBounds(2.0, 6.0, (0.0, 0.0, 0.0), 1.0)
        assert (model.collider.near_plane, model.collider.far_plane) == (2.0, 6.0)

    def test_renders_a_world_that_was_moved_alike(self, scene: Path) -> None:
        """Colours are the same and depths longer, whatever the world's unit and origin are."""
        pipeline = make_pipeline(scene)
        rays, _ = pipeline.datamanager.next_train(0)
        model = pipeline.model.eval()
        here = model(copy.deepcopy(rays))
        shift, scale = torch.tensor([30.0, -20.0, 7.0]), 64.0
        closest = model.bounds.closest * scale
        model._sample_within(SceneBounds(128.0, 384.0, tuple(shift.tolist()), 1 / scale, closest))
        origins = rays.origins * scale + shift
        rays.origins = origins
        there = model(rays)
        assert torch.equal(rays.origins, origins)
        assert torch.allclose(there["rgb"], here["rgb"], atol=1e-4)
        assert torch.allclose(there["depth"], here["depth"] * scale, rtol=1e-4)
        assert here["accumulation"].max() > 0.1

    def test_learns_from_any_distance_as_from_4(self, scene: Path, make_scene: MakeScene) -> None:
        """By the paper's kernel: planes found from cameras differ a little, and the default makes more of that."""

        def losses(data: Path) -> list[float]:
            pipeline = make_pipeline(data)
            pipeline.model.config.adjustment.kernel_of = "samples"
            return train(pipeline, 12)

        here, there = losses(scene), losses(make_scene(350 / CAMERA_DISTANCE, (3.0, 2.0, 1.0)))
        assert there == pytest.approx(here, rel=0.1)

    def test_of_nerfstudio_data_sees_the_scene(self, make_scene: MakeScene) -> None:
        """Its cameras stand within the unit cube; near 2 would be behind everything."""
        data = make_scene(1.0)
        path = single_file(data, fl_x=33.3, fl_y=33.3, cx=12.0, cy=12.0, w=24, h=24)
        edit(path, lambda frame, i: frame | {"file_path": f"train/r_{i}.png"})
        model = make_pipeline(data, parser=NerfstudioDataParserConfig()).model
        assert 0.4 < model.collider.near_plane < 0.6
        assert 1.4 < model.collider.far_plane < 1.6
        assert model.bounds.scale == pytest.approx(6 / model.bounds.far)

    def test_points_shown_in_the_viewer_are_in_the_world(self, make_scene: MakeScene) -> None:
        pipeline = make_pipeline(make_scene(100.0, (1000.0, 0.0, 0.0)))
        pipeline.get_train_loss_dict(0)
        distances = (pipeline.model.latest_points - torch.tensor([1000.0, 0.0, 0.0])).norm(dim=-1)
        assert distances.max() < 500
        assert distances.median() > 1


class TestCheckpoints:
    def test_keep_the_bounds(self, make_scene: MakeScene, scene: Path, tmp_path: Path) -> None:
        trained = make_pipeline(make_scene(50.0))
        torch.save(trained.state_dict(), tmp_path / "state.pt")
        other = make_pipeline(scene)
        other.eval()
        other.load_pipeline(torch.load(tmp_path / "state.pt", weights_only=True), step=1)
        assert other.model.bounds == trained.model.bounds != SceneBounds()
        assert other.model.collider.far_plane == trained.model.collider.far_plane

    def test_rendering_begins_where_training_does(self, make_scene: MakeScene, scene: Path) -> None:
        """As in the paper, and not at the camera; loading a checkpoint changes nothing of it."""
        for data, near in ((scene, 2.0), (make_scene(50.0), 50 * CAMERA_DISTANCE / 2)):
            pipeline = make_pipeline(data)
            rays, _ = pipeline.datamanager.next_train(0)
            pipeline.load_pipeline(pipeline.state_dict(), step=1)
            collider = pipeline.model.collider
            begun = [collider.set_nears_and_fars(rays).nears for _ in (pipeline.train(), pipeline.eval())]
            assert not collider.training
            assert torch.equal(begun[0], begun[1])
            assert begun[1].max() == pytest.approx(near)

    def test_a_camera_that_comes_closer_sees_on(self, make_scene: MakeScene) -> None:
        pipeline = make_pipeline(make_scene(50.0, (7.0, 0.0, 0.0)))
        pipeline.eval()
        rays, _ = pipeline.datamanager.next_train(0)
        centre = rays.origins.new_tensor(pipeline.model.bounds.centre)
        away = rays.origins - centre
        closest, near = pipeline.model.bounds.closest, pipeline.model.bounds.near
        assert closest == pytest.approx(50 * CAMERA_DISTANCE, rel=1e-4)
        for share, expected in ((2.0, near), (0.75, near - 0.25 * closest), (0.4, 0.0), (0.0, 0.0)):
            rays.origins = centre + share * away
            nears = pipeline.model.collider.set_nears_and_fars(rays).nears
            assert torch.allclose(nears, torch.full_like(nears, expected), atol=0.01)

    def test_of_earlier_versions_know_how_close_cameras_were(self, make_scene: MakeScene) -> None:
        pipeline = make_pipeline(make_scene(50.0))
        state = pipeline.state_dict()
        del state["_model._extra_state"]["bounds"]["closest"]
        closest = pipeline.model.bounds.closest
        pipeline.load_pipeline(state, step=1)
        assert pipeline.model.bounds.closest == pytest.approx(closest, rel=1e-3)

    @pytest.mark.parametrize("planes", [None, {"near_plane": 100.0, "far_plane": 300.0}])
    def test_of_earlier_versions_show_the_world_as_it_is(
        self, make_scene: MakeScene, planes: dict[str, float] | None
    ) -> None:
        pipeline = make_pipeline(make_scene(50.0), planes)
        state = pipeline.state_dict()
        del state["_model._extra_state"]["bounds"]
        pipeline.load_pipeline(state, step=1)
        assert pipeline.model.bounds == (SceneBounds(100.0, 300.0) if planes else SceneBounds())


def test_outside_training_batches_are_of_whole_images(scene: Path) -> None:
    """nerfstudio's exporters ask for the batch of step 0, for which training has the images' centre alone."""
    manager = make_pipeline(scene, sampler=SingleImagePixelSamplerConfig()).datamanager
    rows = {"train": set(), "eval": set()}  # type: dict[str, set[int]]
    for mode, found in rows.items():
        manager.train(mode == "train")
        for _ in range(60):
            found.update(manager.next_train(0)[1]["indices"][:, 1].tolist())
    assert rows == {"train": set(range(6, 18)), "eval": set(range(24))}
