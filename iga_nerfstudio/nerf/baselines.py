"""``iga-nerf`` as a method of nerfbaselines; :mod:`iga_nerfstudio.nerf.baselines_spec` registers it."""

from __future__ import annotations

import ast
from typing import Any

from nerfbaselines.methods.nerfstudio import NerfStudio


class IGANerf(NerfStudio):
    """nerfbaselines' wrapper of nerfstudio, training ``iga-nerf``.

    Args:
        config_overrides: Settings by their dotted names; numbers may be given as text, as ``--set name=value`` of
            nerfbaselines' command line does.
        settings: See nerfbaselines' wrapper: checkpoint, train_dataset.
    """

    _default_nerfstudio_name = "iga-nerf"

    def __init__(self, *, config_overrides: dict[str, Any] | None = None, **settings: Any) -> None:
        overrides = None if config_overrides is None else {k: _parsed(v) for k, v in config_overrides.items()}
        super().__init__(config_overrides=overrides, **settings)


class IGANerfMuon(IGANerf):
    """The same under Muon."""

    _default_nerfstudio_name = "iga-nerf-muon"


def _parsed(value: Any) -> Any:
    """Numbers, truth values and None out of text; other text, and what is none, as it is."""
    if not isinstance(value, str):
        return value
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value
