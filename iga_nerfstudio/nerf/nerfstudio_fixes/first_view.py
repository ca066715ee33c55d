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
    cameras = viewer.pipeline.datamanager.train_dataset.cameras
    viewer.viser_server.on_client_connect(lambda client: look_as(client.camera, cameras[0:1]))


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
