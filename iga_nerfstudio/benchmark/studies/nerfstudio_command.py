"""``python -m iga_nerfstudio.benchmark.studies.nerfstudio_command ns-train ...``: as it is, LPIPS left to us.

nerfstudio's methods want to download LPIPS's weights before they train, and fail where that cannot be. The benchmarks
compute all methods' metrics from their pictures, with one backbone, so none of them needs LPIPS of its own. Nor can
torch 2.6 and later read the checkpoints of nerfstudio's own schedules, which hold numpy numbers, unless told to trust
them.
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import entry_points

from iga_nerfstudio.nerf.nerfstudio_fixes.without_lpips import without_lpips


def main() -> None:
    """Run the command that the first argument names, with the others."""
    sys.argv = sys.argv[1:]
    os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"
    (command,) = entry_points(group="console_scripts", name=sys.argv[0])
    with without_lpips():
        command.load()()


if __name__ == "__main__":
    main()
