"""Loss and PSNR among what is printed while training; nerfstudio 1.1.5 prints times alone.

Into a file, every line is written once: nerfstudio rewrites the last ten by moving a terminal's cursor. Neither is
reported upstream.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from typing import Any

from nerfstudio.configs.base_config import LocalWriterConfig
from nerfstudio.utils.writer import EventName, LocalWriter

LOSS, PSNR = "Train Loss", "Train PSNR"


@dataclass
class TrainingLinesConfig(LocalWriterConfig):
    """nerfstudio's settings of what is printed."""

    _target: type = field(default_factory=lambda: TrainingLines)
    """Target class to instantiate."""
    stats_to_track: tuple[EventName, ...] = (EventName.ITER_TRAIN_TIME, EventName.TRAIN_RAYS_PER_SEC, EventName.ETA)
    """What is printed beside loss and PSNR."""


class TrainingLines(LocalWriter):
    """nerfstudio's lines, led by the batch's loss and PSNR.

    Args:
        config: nerfstudio's settings.
        banner_messages: Lines that stay at the bottom of a terminal.
    """

    def __init__(self, config: LocalWriterConfig, banner_messages: list[str] | None = None) -> None:
        if not sys.stdout.isatty():
            config = replace(config, max_log_size=0)
            for message in banner_messages or []:
                print(message)
        super().__init__(config, banner_messages)
        self.stats_to_track = [LOSS, PSNR, *self.stats_to_track]

    def _consolidate_events(self) -> tuple[dict[str, Any], bool]:
        latest, new = super()._consolidate_events()
        metrics = latest.get("Train Metrics Dict", {})
        first = {LOSS: latest[LOSS]} if LOSS in latest else {}
        if "psnr" in metrics:
            first[PSNR] = metrics["psnr"]
        return first | latest, new

    def _print_stats(self, latest_map: dict[str, Any], padding: str = " ") -> None:
        super()._print_stats(latest_map, padding)
        sys.stdout.flush()
