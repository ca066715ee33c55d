"""What a sweep's tests train, in a module that processes of their own load in no time."""

from __future__ import annotations

import math
import time
from typing import Any

from iga_nerfstudio.divergence import TrainingDiverged


def square(number: float) -> dict[str, Any]:
    """A training of no time; diverges at 13, and fails at 17."""
    if number == 13:
        raise TrainingDiverged("too much")
    return {"failed": "no luck"} if number == 17 else {"psnr": number**2}


def slow_square(number: float) -> dict[str, Any]:
    time.sleep(0.2)
    return square(number)


def perfect(_number: float) -> dict[str, Any]:
    return {"psnr": math.inf}


def constant(config: object) -> dict[str, Any]:
    return {"psnr": 1.0}
