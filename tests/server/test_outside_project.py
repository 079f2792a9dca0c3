"""A project elsewhere installs ``aioredis_kit[testing]`` from this checkout, and its one test file works."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]

_TEST_FILE = """
import pytest

from aioredis_kit import RedisClient


@pytest.mark.asyncio
async def test_counts(redis_client):
    assert isinstance(redis_client, RedisClient)
    assert await redis_client.dbsize() == 0
    assert [await redis_client.incr("visits") for _ in range(3)] == [1, 2, 3]


@pytest.mark.asyncio
async def test_starts_empty_again(redis_client, redis_url):
    assert redis_url.startswith("redis://")
    assert await redis_client.get("visits") is None
"""


def _run(command, **options):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    return subprocess.run(
        [str(part) for part in command],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        **options,
    )


@pytest.fixture
def install(tmp_path, is_long):
    """An environment of its own, as the interpreter in it and a function that installs into it."""
    if not is_long:
        pytest.skip("installs packages into a fresh environment: run with --long")
    python = tmp_path / "venv" / "bin" / "python"
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if uv is not None:
        made = _run([uv, "venv", "--python", sys.executable, tmp_path / "venv"])
        installer = [uv, "pip", "install", "--python", python]
    else:
        made = _run([sys.executable, "-m", "venv", tmp_path / "venv"])
        installer = [python, "-m", "pip", "install"]
    if made.returncode:
        pytest.skip(f"no environment can be made here: {made.stderr.strip()[-200:]}")
    # A package that has nothing to do with us tells an unreachable registry from a fault of ours.
    probe = _run([*installer, "hatchling"])
    if probe.returncode:
        pytest.skip(f"no package registry can be reached: {probe.stderr.strip()[-200:]}")
    return python, lambda requirement: _run([*installer, requirement])


def test_a_project_elsewhere_passes_its_test(install, tmp_path):
    """The package, its extra and its pytest plugin work as installed, without this repository on any path."""
    python, install_requirement = install
    installed = install_requirement(f"aioredis_kit[testing] @ {_ROOT.as_uri()}")
    assert installed.returncode == 0, installed.stderr
    project = tmp_path / "project"
    project.mkdir()
    (project / "test_visits.py").write_text(_TEST_FILE, encoding="utf-8")
    # Without a configuration file pytest-asyncio warns of a default that it may change: its business, not ours.
    strictly = ["-W", "error", "-W", "ignore::pytest.PytestDeprecationWarning"]
    passed = _run([python, "-m", "pytest", *strictly], cwd=project)
    assert passed.returncode == 0, passed.stdout + passed.stderr
    assert "2 passed" in passed.stdout
