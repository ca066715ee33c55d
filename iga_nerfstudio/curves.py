"""Training curves for TensorBoard: where they cannot be written any more, they end and the training does not."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import ParamSpec

logger = logging.getLogger("iga_nerfstudio")

Arguments = ParamSpec("Arguments")


def tolerant(write: Callable[Arguments, object]) -> Callable[Arguments, None]:
    """A function that writes curves, which after its first failure does nothing any more.

    Args:
        write: Writes; its OSErrors are told once.
    """
    _quieten_threads()
    failed = False

    def written(*arguments: Arguments.args, **settings: Arguments.kwargs) -> None:
        nonlocal failed
        if failed:
            return
        try:
            write(*arguments, **settings)
        except OSError as error:
            failed = True
            logger.warning("TensorBoard's curves end here: %s.", error)

    return written


def _quieten_threads() -> None:
    """TensorBoard's thread hands its failure to whoever writes next; its stack says nothing more."""
    others = threading.excepthook
    if getattr(others, "knows_tensorboard", False):
        return

    def excepthook(failure: threading.ExceptHookArgs) -> None:
        known = type(failure.thread).__module__.startswith("tensorboard")
        if not (known and issubclass(failure.exc_type, OSError)):
            others(failure)

    excepthook.knows_tensorboard = True  # type: ignore[attr-defined]
    threading.excepthook = excepthook
