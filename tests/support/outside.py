"""An environment outside of this project, into which packages are installed and in which programs run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
"""What to install ours from."""


@dataclass(frozen=True, slots=True)
class Outside:
    """An environment with an interpreter of its own.

    Attributes:
        python: The interpreter.
        installer: The command that installs the packages that are named behind it.
    """

    python: Path
    installer: tuple[str | Path, ...]

    def install(self, *requirements):
        """Install packages, or fail the test."""
        installed = _run([*self.installer, *requirements])
        assert installed.returncode == 0, installed.stderr

    def run(self, *arguments, cwd=None):
        """Run the interpreter, and return how it ended."""
        return _run([self.python, *arguments], cwd=cwd)


def make_outside(folder, *, probe, override=None):
    """Make an environment in a folder, or skip the test where that can't be done.

    Args:
        folder: Where to make it.
        probe: A package that has nothing to do with us: it tells an unreachable registry from a fault of ours.
        override: A requirement that holds whatever other packages require.
    """
    python = folder / "venv" / "bin" / "python"
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if uv is not None:
        made = _run([uv, "venv", "--python", sys.executable, folder / "venv"])
        installer = (uv, "pip", "install", "--python", python)
    else:
        made = _run([sys.executable, "-m", "venv", folder / "venv"])
        installer = (python, "-m", "pip", "install")
    if made.returncode:
        pytest.skip(f"no environment can be made here: {made.stderr.strip()[-200:]}")
    if override is not None:
        if uv is None:
            pytest.skip("there is no uv, and pip can't override what packages require")
        (folder / "override.txt").write_text(override, encoding="utf-8")
        installer = (*installer, "--override", folder / "override.txt")
    probed = _run([*installer, probe])
    if probed.returncode:
        pytest.skip(f"no package registry can be reached: {probed.stderr.strip()[-200:]}")
    return Outside(python, installer)


def _run(command, *, cwd=None):
    """Run a command that knows nothing of the environment in which the tests run."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
