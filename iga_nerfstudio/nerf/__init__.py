"""The nerfstudio plugin."""

import sys
from pathlib import Path

if Path(sys.argv[0]).name.startswith("ns-"):  # one of nerfstudio's commands, which load this before anything else of us
    from iga_nerfstudio.nerf.nerfstudio_fixes.terminal import print_mistakes_in_one_line, quiet_known_warnings
    from iga_nerfstudio.terminal import escape_what_cannot_be_shown

    quiet_known_warnings()
    escape_what_cannot_be_shown()
    print_mistakes_in_one_line()
