"""SPM itself for the tests that run it: its command and folder, named in the environment."""

from __future__ import annotations

import os

COMMAND = os.environ.get("RESTRESPONSE_SPM_COMMAND")
REAL = {
    "command": COMMAND,
    "use_mcr": "matlab" not in (COMMAND or ""),
    "folder": os.environ.get("RESTRESPONSE_SPM_FOLDER"),
}
