"""Built-in scenes, rendered on the spot in the layout of the Blender NeRF-synthetic data set."""

from __future__ import annotations

from iga_nerfstudio.scenes.blender_layout import write_demo_scene
from iga_nerfstudio.scenes.render import (
    CAMERA_ANGLE_X,
    CAMERA_DISTANCE,
    circle_cameras,
    hemisphere_cameras,
    look_at_origin,
    render_view,
)

__all__ = [
    "CAMERA_ANGLE_X",
    "CAMERA_DISTANCE",
    "circle_cameras",
    "hemisphere_cameras",
    "look_at_origin",
    "render_view",
    "write_demo_scene",
]
