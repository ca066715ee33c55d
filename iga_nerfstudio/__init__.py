"""Inductive Gradient Adjustment (IGA, ICML 2025) for coordinate networks: a torch library and a nerfstudio plugin."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from iga_nerfstudio.version import __version__

if TYPE_CHECKING:
    from iga_nerfstudio.adjustment import *  # noqa: F403
    from iga_nerfstudio.adjustment import __all__

    __all__ = [*__all__, "__version__"]


def __getattr__(name: str) -> Any:
    """The method's names, and torch with them, once one is asked for: a command that shows its help needs neither."""
    if name != "__all__" and name.startswith("__"):
        raise AttributeError(name)
    method = import_module("iga_nerfstudio.adjustment")
    names = {known: getattr(method, known) for known in method.__all__} | {"__all__": [*method.__all__, "__version__"]}
    globals().update(names)  # from then on they are here as if imported above
    if name in names:
        return names[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__getattr__("__all__")})
