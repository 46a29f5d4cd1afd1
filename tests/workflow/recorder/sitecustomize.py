"""Notes what each `celllm` command imported, as JSON in CELLLM_RECORD; Python runs this file as it starts."""

import atexit
import json
import os
import sys
from pathlib import Path


def _record() -> None:
    if Path(sys.argv[0]).parts[-2:] == ("celllm", "__main__.py"):
        note = {"words": sys.argv[1:], "modules": sorted(sys.modules)}
        Path(os.environ["CELLLM_RECORD"], f"{os.getpid()}-{id(note)}.json").write_text(json.dumps(note))


if "CELLLM_RECORD" in os.environ:
    atexit.register(_record)
