"""Projects of somebody who uses the pytest plugin: a few files on which pytest runs."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from pathlib import Path

from aioredis_kit import pytest_plugin

IS_INSTALLED = any(entry.name == "aioredis_kit" for entry in importlib.metadata.entry_points(group="pytest11"))

CONFTEST = """
import os
import time

import pytest

from aioredis_kit.testing.probe import Probe


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left(redis_server):
    yield
    with Probe(redis_server.address) as probe:
        assert not (set(probe.info("keyspace")) - {"db0"})
        deadline = time.monotonic() + 5
        while probe.info("clients")["connected_clients"] != "1":
            assert time.monotonic() < deadline, probe.call("CLIENT", "LIST")
"""

STEPS = """
async def steps(client):
    assert await client.dbsize() == 0
    assert await client.set("k", "v")
    assert await client.incr("n") == 1
    assert await client.get("k") in (b"v", "v")
"""


def make_project(pytester, monkeypatch):
    """Make a project with a conftest that fails the run if something is left on the server."""
    for name in ("URL", "CONTAINER"):
        monkeypatch.delenv(f"AIOREDIS_KIT_TEST_{name}", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(Path(pytest_plugin.__file__).parents[1]), os.pathsep)
    # Without bytecode each run compiles this package and all plugins again, a second or two.
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    pytester.makeconftest(CONFTEST)
    return pytester


def run(project, source, *arguments, ini=(), apart=False, **outcomes):
    """Run pytest on one file, in a process of its own or not, and compare the outcomes."""
    project.makepyfile(STEPS + source)
    if "no:asyncio" not in arguments:
        ini = ["asyncio_default_fixture_loop_scope=function", *ini]
    project.makeini("\n".join(["[pytest]", *ini]))
    load = [] if IS_INSTALLED else ["-p", "aioredis_kit.pytest_plugin"]
    start = project.runpytest_subprocess if apart else project.runpytest_inprocess
    result = start(*load, "-W", "error", *arguments)
    result.assert_outcomes(**outcomes)
    return result
