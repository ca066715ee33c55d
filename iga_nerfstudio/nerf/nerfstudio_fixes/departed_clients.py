"""A client that leaves must not take nerfstudio's viewer along.

nerfstudio 1.1.5, since a thread renders for each client (its pull request 2519); not reported upstream.
"""

from __future__ import annotations

from typing import Any


class _NobodyLooks:
    """In place of the render thread of a client that has left."""

    running = False

    def action(self, action: object) -> None:
        """Nothing is rendered for nobody."""


class RenderThreads(dict[int, Any]):
    """nerfstudio's render threads by client; those of clients that have left do nothing instead of raising.

    Messages of a client may be handled after it has left. nerfstudio 1.1.5 then looks its render thread up within
    viser's ``atomic``, which a KeyError leaves locked for good: no page is drawn any more, though training goes on.
    """

    def __missing__(self, client: int) -> _NobodyLooks:
        return _NobodyLooks()


def survive_departures(viewer: Any) -> None:
    """Let a viewer go on whenever its clients leave.

    Args:
        viewer: nerfstudio's viewer.
    """
    viewer.render_statemachines = RenderThreads(viewer.render_statemachines)
