"""Views that cannot be decoded are named.

nerfstudio 1.1.5 ends in what Pillow says of it, without the file's name. Not reported upstream.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
from nerfstudio.data.datasets.base_dataset import InputDataset

_read = InputDataset.get_numpy_image


def _read_or_name(views: InputDataset, image_idx: int) -> npt.NDArray[np.uint8]:
    """As nerfstudio's.

    Raises:
        ValueError: If the image cannot be decoded.
    """
    try:
        return _read(views, image_idx)
    except (OSError, SyntaxError, ValueError) as error:
        path = views.image_filenames[image_idx]
        raise ValueError(f"The image {path} cannot be read: {error}. Copy or render it again.") from error


@contextmanager
def named_where_unreadable() -> Iterator[None]:
    """Views that are loaded meanwhile are named if they cannot be."""
    with patch.object(InputDataset, "get_numpy_image", _read_or_name):
        yield
