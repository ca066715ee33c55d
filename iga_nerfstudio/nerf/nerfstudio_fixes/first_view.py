"""A viewer's first view is that of a training camera; nerfstudio 1.1.5 leaves viser's, amid the object.

Asked for upstream in nerfstudio's issues 469 and 3502, both open.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import viser
import viser.transforms
from nerfstudio.cameras.cameras import Cameras

# The viewer's scene is that many times larger than nerfstudio's.
SCENE_SCALE = 10.0


def begin_at_a_training_view(viewer: Any) -> None:
    """Put every client that comes where the first training view was taken from.

    Args:
        viewer: nerfstudio's viewer.
    """
    viewer.viser_server.on_client_connect(lambda client: look_from(client.camera, viewer, 0))


def look_from(camera: viser.CameraHandle, viewer: Any, index: int) -> None:
    """Move a client's camera to a training view, whose own picture would hide what is rendered there.

    Args:
        camera: The client's.
        viewer: nerfstudio's viewer.
        index: Of the view; its picture comes back with *Show Train Cams*.
    """
    look_as(camera, viewer.pipeline.datamanager.train_dataset.cameras[index : index + 1])
    pictures = getattr(viewer, "camera_handles", {})  # none before the training begins, and of some views alone
    if index in pictures:
        pictures[index].visible = False


def look_as(camera: viser.CameraHandle, view: Cameras) -> None:
    """Move a client's camera.

    Args:
        camera: The client's.
        view: One camera; of its field of view, the vertical one is kept.
    """
    pose = view.camera_to_worlds[0].cpu().numpy().astype(np.float64)
    towards, position = -pose[:, 2], pose[:, 3]
    # What the person will turn around: where the view passes the scene's middle.
    distance = max(float(-position @ towards), 1e-3)
    camera.up_direction = pose[:, 1]
    camera.position = SCENE_SCALE * position
    camera.look_at = SCENE_SCALE * (position + distance * towards)
    camera.fov = float(2 * np.arctan(view.height[0].item() / 2 / view.fy[0].item()))
