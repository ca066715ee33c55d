"""A field that renders one colour everywhere has died, or hides behind the background: told while it is early."""

from __future__ import annotations

import logging

from torch import Tensor

logger = logging.getLogger("iga_nerfstudio")

# Steps between two looks, each of which waits for the GPU, and how long a field has to be flat.
_BETWEEN, _LONG = 25, 200
# Standard deviation of colours over a batch of rays: of a rendering that is flat, and of views that are not.
_FLAT, _VARIED = 1e-3, 0.02


class CollapseWatch:
    """Looks at every step's rendering, and says once what to do if the field is dead."""

    def __init__(self) -> None:
        self._steps = self._flat = 0
        self._told = False

    def see(self, rendered: Tensor, truth: Tensor) -> None:
        """Look at a training step.

        Args:
            rendered: Colours of its rays, ``(n, 3)``.
            truth: Those of the views, ``(n, 3)`` or with opacity ``(n, 4)``, on any device.
        """
        self._steps += 1
        if self._told or self._steps % _BETWEEN or len(rendered) < 2:
            return
        if truth.std(dim=0).max() < _VARIED:
            return  # such rays tell nothing
        self._flat = self._flat + _BETWEEN if rendered.detach().std(dim=0).max() < _FLAT else 0
        if self._flat >= _LONG:
            self._told = True
            logger.warning(
                "The field has rendered one colour everywhere for %d steps: it has died, or collapsed to the "
                "background, and will not come back. Start again with another --machine.seed; a lower learning rate, "
                "and for iga-nerf --pipeline.model.initial-density 0.1 or more, make this rarer.",
                self._flat,
            )
