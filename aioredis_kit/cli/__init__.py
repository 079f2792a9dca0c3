"""The command ``aioredis-kit``, which is ``python -m aioredis_kit`` too.

Rules of this package:

1. What a command finds out is a value of its own; one function makes text of it, another JSON. Both tell the same.
2. A secret is never shown: neither what was given as the target, nor what a usage error quotes.
3. click and rich come with the extra ``cli``. So nothing here is imported by another part of the package.
"""

from __future__ import annotations

import sys
from typing import Final

__all__ = ["main"]

_EXTRA: Final = {"click", "rich"}
_MISSING: Final = 'aioredis-kit: the command line needs click and rich: pip install "aioredis_kit[cli]"\n'
_MISUSED: Final = 2
_INTERRUPTED: Final = 130


def main() -> None:
    """Run the command that the process was started with, and exit: 0 well, 1 trouble, 2 misused, 130 interrupted."""
    try:
        from aioredis_kit.cli.app import program  # noqa: PLC0415  # may be missing

        program.main(prog_name="aioredis-kit")
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] not in _EXTRA:
            raise
        sys.stderr.write(_MISSING)
        sys.exit(_MISUSED)
    except KeyboardInterrupt:  # while modules were being imported: commands catch it themselves
        sys.exit(_INTERRUPTED)
