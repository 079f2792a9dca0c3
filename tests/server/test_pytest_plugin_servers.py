"""Which server the pytest plugin takes: containers, isolation under xdist, and servers that other plugins have started."""

from __future__ import annotations

import socket

import pytest

from aioredis_kit.testing import RedisServer
from aioredis_kit.testing.probe import Probe
from tests.support.docker_daemon import docker_daemon
from tests.support.projects import make_project, run

pytest_plugins = ["pytester"]

NO_DAEMON = "tcp://127.0.0.1:1"

STEPS = """
async def test_steps(redis_client, redis_server):
    await steps(redis_client)
    assert redis_server.started_here
"""

MANY = """
import os
import pytest

@pytest.mark.parametrize("number", range(40))
async def test_one_of_many(redis_client, redis_server, redis_url, number):
    assert redis_server.started_here
    await steps(redis_client)
    with open({path!r}, "a") as seen:
        worker = os.environ["PYTEST_XDIST_WORKER"]
        seen.write(f"{{worker}} {{redis_server.port}} {{redis_url.rpartition('/')[2]}}\\n")
"""


@pytest.fixture
def project(pytester, monkeypatch):
    project = make_project(pytester, monkeypatch)
    project.makeconftest("")
    return project


@pytest.fixture
def daemon(monkeypatch):
    with docker_daemon(monkeypatch) as daemon:
        yield daemon


# A container.


@pytest.mark.only_long
@pytest.mark.parametrize("how", ["option", "variable", "ini"])
def test_a_container_is_taken_where_one_is_asked_for(project, monkeypatch, daemon, how):
    arguments, ini = ["--asyncio-mode=auto"], []
    monkeypatch.delenv("AIOREDIS_KIT_TEST_SERVER", raising=False)
    match how:
        case "option":
            arguments.append("--aioredis-kit-container=valkey/valkey:9")
        case "variable":
            monkeypatch.setenv("AIOREDIS_KIT_TEST_CONTAINER", "valkey/valkey:9")
        case "ini":
            ini.append("aioredis_kit_container=valkey/valkey:9")
    run(project, STEPS, *arguments, ini=ini, apart=True, passed=1)
    assert daemon.created == ["valkey/valkey:9"]
    assert not daemon.containers  # it was removed


@pytest.mark.only_long
def test_an_image_that_is_not_there(project, daemon):
    """It fails the tests that want the server, with what Docker says."""
    image = "--aioredis-kit-container=redis:none"
    result = run(project, STEPS, "--asyncio-mode=auto", image, apart=True, errors=1)
    result.stdout.fnmatch_lines(["*the container redis:none (given) didn't start: *pull access denied*"])
    assert not daemon.containers


@pytest.mark.only_long
def test_no_daemon(project, monkeypatch):
    """Nothing else is taken instead."""
    monkeypatch.setenv("DOCKER_HOST", NO_DAEMON)
    image = "--aioredis-kit-container=redis:8"
    result = run(project, STEPS, "--asyncio-mode=auto", image, apart=True, errors=1)
    result.stdout.fnmatch_lines(["*redis:8 (given) can't be started, because no Docker daemon answers; see to that*"])


@pytest.mark.parametrize(
    ("arguments", "ini"),
    [
        (["--aioredis-kit-url=redis://h", "--aioredis-kit-container=redis:8"], []),
        ([], ["aioredis_kit_server=redis-server", "aioredis_kit_container=redis:8"]),
    ],
)
def test_only_one_server_can_be_asked_for(project, monkeypatch, arguments, ini):
    for name in ("URL", "SERVER", "CONTAINER"):
        monkeypatch.delenv(f"AIOREDIS_KIT_TEST_{name}", raising=False)
    result = run(project, "def test(redis_url): pass", *arguments, ini=ini, errors=1)
    result.stdout.fnmatch_lines(["*aioredis?kit?* and *aioredis?kit?container exclude each other*"])


# Isolation.


@pytest.mark.only_long
def test_isolation_by_database(project, tmp_path):
    """All workers share one server, and no database of it."""
    arguments = ["--asyncio-mode=auto", "-n", "4", "--aioredis-kit-isolation=database"]
    run(project, MANY.format(path=str(tmp_path / "seen")), *arguments, apart=True, passed=40)
    seen = {tuple(line.split()) for line in (tmp_path / "seen").read_text().splitlines()}
    workers, ports, databases = (set(column) for column in zip(*seen, strict=True))
    assert len(workers) == 4
    assert len(ports) == 1
    assert len(databases) == len({(worker, database) for worker, _, database in seen}) >= 4
    with pytest.raises(ConnectionRefusedError):  # it ended with the run
        socket.create_connection(("127.0.0.1", int(ports.pop())))


@pytest.mark.only_long
def test_isolation_by_database_after_a_crash(project, tmp_path):
    """The worker that takes the place of one that crashed shares no database with the others, either."""
    crash = "    if worker == 'gw1':\n        os._exit(1)\n    time.sleep(0.2)  # until all workers are there\n"
    arguments = ["--asyncio-mode=auto", "-n", "2", "--aioredis-kit-isolation=database"]
    source = "import time\n" + MANY.format(path=str(tmp_path / "seen")) + crash
    run(project, source, *arguments, apart=True, passed=39, failed=1)
    seen = {tuple(line.split()) for line in (tmp_path / "seen").read_text().splitlines()}
    databases = {name: {database for worker, _, database in seen if worker == name} for name in ("gw0", "gw1", "gw2")}
    assert databases["gw2"]
    assert not databases["gw0"] & (databases["gw1"] | databases["gw2"])


@pytest.mark.only_long
def test_isolation_by_database_without_a_server(project):
    """Tests that want one fail, the others run."""
    arguments = ["-n", "2", "--aioredis-kit-isolation=database", "--aioredis-kit-server=/nowhere/redis-server"]
    source = "def test_with(redis_url): pass\ndef test_without(): pass"
    result = run(project, source, *arguments, apart=True, passed=1, errors=1)
    result.stdout.fnmatch_lines(["*'/nowhere/redis-server'*isn't an executable file*"])


@pytest.mark.only_long
@pytest.mark.parametrize(("isolation", "outcomes"), [("database", {"passed": 4}), ("server", {"errors": 4})])
def test_isolation_on_a_foreign_server(project, isolation, outcomes):
    """There is only one: it can't be had once for each worker."""
    source = """
import pytest

@pytest.mark.parametrize("number", range(4))
async def test_steps(redis_client, number):
    await steps(redis_client)
"""
    with RedisServer() as server, Probe(server.address) as probe:
        probe.call("SET", "theirs", "x")
        arguments = ["-n", "2", f"--aioredis-kit-isolation={isolation}", f"--aioredis-kit-url={server.url}"]
        result = run(project, source, "--asyncio-mode=auto", *arguments, apart=True, **outcomes)
        assert probe.info("keyspace").keys() == {"db0"}
    if isolation == "server":
        result.stdout.fnmatch_lines(["*the server at a URL (given) is one*leave the URL out, or isolate by database*"])


@pytest.mark.only_long
@pytest.mark.parametrize("isolation", ["server", "database"])
def test_isolation_without_xdist(project, isolation):
    run(project, STEPS, "--asyncio-mode=auto", f"--aioredis-kit-isolation={isolation}", passed=1)


@pytest.mark.parametrize("option", ["isolation", "open_clients"])
def test_an_ini_option_that_has_no_such_value(project, option):
    project.makeini(f"[pytest]\nasyncio_default_fixture_loop_scope=function\naioredis_kit_{option}=both")
    result = project.runpytest_inprocess()
    result.stderr.fnmatch_lines([f"*aioredis_kit_{option} is 'both'; it can be * or *"])
