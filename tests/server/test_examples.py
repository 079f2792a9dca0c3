"""The examples run as they are: in a process of their own, where every warning is an error."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


def test_feature_flags(redis_url):
    """One read goes to the server before the flag is switched; then the switch is seen."""
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / "feature_flags.py", redis_url],
        env={**os.environ, "PYTHONPATH": str(EXAMPLES.parent), "PYTHONASYNCIODEBUG": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    requests, loads = re.search(r"(\d+) requests in .* of \d+ reads (\d+) went to the server", done.stdout).groups()
    assert (requests, loads) == ("5000", "1")
    assert "switched on by somebody else: served" in done.stdout
