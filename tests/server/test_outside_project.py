"""A project elsewhere installs ``aioredis_kit[testing]`` from this checkout, and its one test file works."""

from __future__ import annotations

import pytest

from tests.support.outside import ROOT, make_outside

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


@pytest.fixture
def outside(tmp_path, is_long):
    """An environment of its own."""
    if not is_long:
        pytest.skip("installs packages into a fresh environment: run with --long")
    return make_outside(tmp_path, probe="hatchling")


def test_a_project_elsewhere_passes_its_test(outside, tmp_path):
    """The package, its extra and its pytest plugin work as installed, without this repository on any path."""
    outside.install(f"aioredis_kit[testing] @ {ROOT.as_uri()}")
    project = tmp_path / "project"
    project.mkdir()
    (project / "test_visits.py").write_text(_TEST_FILE, encoding="utf-8")
    # Without a configuration file pytest-asyncio warns of a default that it may change: its business, not ours.
    strictly = ["-W", "error", "-W", "ignore::pytest.PytestDeprecationWarning"]
    passed = outside.run("-m", "pytest", *strictly, cwd=project)
    assert passed.returncode == 0, passed.stdout + passed.stderr
    assert "2 passed" in passed.stdout
