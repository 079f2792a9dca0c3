"""The pytest plugin, in projects of its own: each test here runs pytest on a few files."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from aioredis_kit import pytest_plugin
from aioredis_kit.testing import RedisServer
from aioredis_kit.testing.probe import Probe
from tests.support.projects import CONFTEST, make_project, run

pytest_plugins = ["pytester"]


@pytest.fixture
def project(pytester, monkeypatch):
    """A project with a conftest that fails the run if something is left on the server."""
    return make_project(pytester, monkeypatch)


FUNCTIONS = """
import asyncio
import pytest
{mark}

async def test_first(redis_client):
    await steps(redis_client)

async def test_second(redis_client, redis_faults):
    await steps(redis_client)
    assert redis_faults._listener._loop is asyncio.get_running_loop()

class TestClass:
    async def test_third(self, redis_client):
        await steps(redis_client)

    async def test_fourth(self, redis_client, redis_url):
        await steps(redis_client)
"""


@pytest.mark.parametrize("scope", ["function", "class", "module", "package", "session"])
def test_pytest_asyncio_strict(project, scope):
    """In strict mode the client lives on the loop that the test's marker names."""
    if scope == "class":
        source = FUNCTIONS.format(mark="").replace(
            "class TestClass", "@pytest.mark.asyncio(loop_scope='class')\nclass TestClass"
        )
        source = source.replace("async def test_f", "@pytest.mark.asyncio\nasync def test_f", 1)
        source = source.replace("async def test_s", "@pytest.mark.asyncio\nasync def test_s", 1)
    else:
        source = FUNCTIONS.format(mark=f"pytestmark = pytest.mark.asyncio(loop_scope='{scope}')")
    run(project, source, "--asyncio-mode=strict", "--asyncio-debug", passed=4)


@pytest.mark.parametrize("scope", ["function", "session"])
@pytest.mark.parametrize("fixture_scope", ["function", "session"])
def test_pytest_asyncio_auto(project, scope, fixture_scope):
    """In auto mode no marker is needed; the tests' loop counts, not the fixtures' default."""
    options = ["-o", f"asyncio_default_fixture_loop_scope={fixture_scope}"]
    ini = [f"asyncio_default_test_loop_scope={scope}"]
    source = FUNCTIONS.format(mark="")
    run(project, source, "--asyncio-mode=auto", *options, ini=ini, passed=4)


ANYIO_BACKEND = """
@pytest.fixture(scope="{scope}")
def anyio_backend():
    return {backend}
"""


@pytest.mark.parametrize(
    "arguments",
    [["-p", "no:asyncio"], ["--asyncio-mode=strict"], ["-p", "no:asyncio", "--anyio-mode=auto"]],
    ids=["alone", "beside pytest-asyncio", "auto"],
)
@pytest.mark.parametrize("scope", ["function", "session"])
def test_anyio(project, arguments, scope):
    """Tests that anyio runs have the client on their loop, with and without pytest-asyncio."""
    mark = "" if "--anyio-mode=auto" in arguments else "pytestmark = pytest.mark.anyio"
    source = ANYIO_BACKEND.format(scope=scope, backend="'asyncio'")
    run(project, FUNCTIONS.format(mark=mark) + source, *arguments, passed=4)


def test_anyio_with_uvloop(project):
    """anyio's options for the loop are respected."""
    pytest.importorskip("uvloop")
    source = FUNCTIONS.format(mark="pytestmark = pytest.mark.anyio") + ANYIO_BACKEND.format(
        scope="module", backend="('asyncio', {'use_uvloop': True})"
    )
    run(project, source, passed=4)


def test_both_runners_in_one_run(project):
    """Tests of pytest-asyncio and of anyio can live in one file."""
    source = """
import pytest

@pytest.fixture
def anyio_backend():
    return "asyncio"

@pytest.mark.asyncio
async def test_one(redis_client):
    await steps(redis_client)

@pytest.mark.anyio
async def test_other(redis_client):
    await steps(redis_client)

def test_synchronous(redis_url):
    from aioredis_kit.testing.probe import Probe, ServerAddress

    with Probe(ServerAddress.from_url(redis_url)) as probe:
        assert probe.call("DBSIZE") == 0
        probe.call("SET", "k", "v")
"""
    run(project, source, "--asyncio-mode=strict", passed=3)


def test_failures_in_the_middle(project):
    """Tests that fail, time out or leave the server dead don't disturb those after them."""
    source = """
import asyncio
import pytest

async def test_before(redis_client):
    await steps(redis_client)

async def test_fails(redis_client):
    await steps(redis_client)
    raise ZeroDivisionError

async def test_is_cancelled(redis_client):
    await steps(redis_client)
    raise asyncio.CancelledError

async def test_kills(redis_client, redis_server):
    await steps(redis_client)
    redis_server.kill()
    raise ZeroDivisionError

async def test_pauses(redis_client, redis_server):
    await steps(redis_client)
    redis_server.pause()
    redis_server.resume()
    raise ZeroDivisionError

async def test_after(redis_client):
    await steps(redis_client)
"""
    run(project, source, "--asyncio-mode=auto", passed=2, failed=4)


def test_faults(project):
    """A client behind the proxy is cut off and served again, in the test's database."""
    source = """
import pytest
from aioredis_kit import create_client

async def test_faults(redis_client, redis_faults, redis_url):
    await steps(redis_client)
    async with create_client(redis_faults.url) as behind:
        assert await behind.get("k") == b"v"
        seen = redis_faults.statistics().connections_seen
        redis_faults.cut()
        assert await behind.get("k") == b"v"
        assert redis_faults.statistics().connections_seen == seen + 1
    assert redis_faults.url.rpartition("/")[2] == redis_url.rpartition("/")[2]
"""
    run(project, source, "--asyncio-mode=auto", passed=1)


def test_fixtures_on_top(project):
    """A user's fixture can use the client before, and after, its test."""
    source = """
import pytest
import pytest_asyncio

@pytest_asyncio.fixture
async def store(redis_client):
    await steps(redis_client)
    yield redis_client
    assert await redis_client.get("k") == b"changed"

@pytest.mark.asyncio
async def test_store(store, redis_client):
    assert store is redis_client
    await store.set("k", "changed")
"""
    run(project, source, "--asyncio-mode=strict", passed=1)


def test_overrides(project):
    """A user's fixture of the same name wins, and the others build on it."""
    source = """
import pytest
from aioredis_kit.testing import RedisServer

@pytest.fixture(scope="module")
def redis_server():
    with RedisServer(password="s3cret", config={"databases": 2}) as server:
        yield server

@pytest.fixture
def redis_client_options():
    return {"decode_responses": True}

async def test_own_server(redis_client, redis_server, redis_url):
    assert ":s3cret@" in redis_url
    await steps(redis_client)
    assert await redis_client.get("k") == "v"
    assert (await redis_client.config_get("databases"))["databases"] == "2"

class TestOwnURL:
    @pytest.fixture
    def redis_url(self, redis_server):
        return redis_server.url + "/0"

    async def test_own_url(self, redis_client):
        await steps(redis_client)
        await redis_client.flushdb()

class TestOwnClient:
    @pytest.fixture
    def redis_client(self, redis_url):
        return "mine"

    async def test_own_client(self, redis_client):
        assert redis_client == "mine"
"""
    project.makeconftest("")
    run(project, source, "--asyncio-mode=auto", passed=3)


@pytest.mark.only_long
def test_xdist(project, tmp_path):
    """Each worker has a server of its own."""
    source = f"""
import os
import pytest

@pytest.mark.parametrize("number", range(40))
async def test_one_of_many(redis_client, redis_server, number):
    await steps(redis_client)
    with open({str(tmp_path / "seen")!r}, "a") as seen:
        seen.write(os.environ["PYTEST_XDIST_WORKER"] + f" {{redis_server.port}}\\n")
"""
    run(project, source, "--asyncio-mode=auto", "-n", "4", passed=40)
    seen = {tuple(line.split()) for line in (tmp_path / "seen").read_text().splitlines()}
    workers, ports = zip(*seen, strict=True)
    assert len(seen) == len(set(workers)) == len(set(ports)) == 4


@pytest.mark.parametrize(
    ("how", "workers"),
    [("option", "0"), ("variable", "0"), ("ini", "0"), pytest.param("variable", "4", marks=pytest.mark.only_long)],
)
def test_foreign_server(project, monkeypatch, how, workers):
    """On a server that runs already, nothing that was there is touched."""
    source = """
import pytest

@pytest.mark.parametrize("number", range(10))
async def test_one_of_many(redis_client, redis_server, number):
    assert not redis_server.started_here
    await steps(redis_client)
"""
    with RedisServer(password="s3cret") as server, Probe(server.address) as probe:
        probe.call("SET", "theirs", "x")
        probe.call("CONFIG", "RESETSTAT")
        project.makeconftest("")
        arguments, ini = ["--asyncio-mode=auto", "-n", workers], []
        if how == "option":
            arguments.append(f"--aioredis-kit-url={server.url}")
        elif how == "variable":
            monkeypatch.setenv("AIOREDIS_KIT_TEST_URL", server.url)
        else:
            ini.append(f"aioredis_kit_url={server.url}")
            monkeypatch.delenv("AIOREDIS_KIT_TEST_SERVER", raising=False)
        run(project, source, *arguments, ini=ini, passed=10)
        assert set(probe.info("keyspace")) == {"db0"}
        assert probe.call("GET", "theirs") == b"x"
        assert not {"cmdstat_flushdb", "cmdstat_flushall"} & set(probe.info("commandstats"))


def test_named_database_with_data(project):
    """A database that was named and holds keys is refused, with the remedy."""
    source = """
async def test_client(redis_client):
    raise ZeroDivisionError
"""
    project.makeconftest("")
    with RedisServer() as server, Probe(server.address) as probe:
        probe.call("SET", "theirs", "x")
        url = f"--aioredis-kit-url={server.url}/0"
        result = run(project, source, "--asyncio-mode=auto", url, errors=1)
        assert probe.call("GET", "theirs") == b"x"
    result.stdout.fnmatch_lines(["*database 0 *holds 1 keys*name an empty one*"])


MARKED_FOR_ANYIO = """
import pytest

@pytest.fixture
def anyio_backend():
    return {backend!r}

@pytest.mark.anyio
async def test(redis_client):
    pass
"""


@pytest.mark.parametrize(
    ("source", "argument", "message"),
    [
        ("def test(redis_client): pass", "", "*no runner has taken this test*redis_url*"),
        ("async def test(redis_client): pass", "", "*mark it with @pytest.mark.asyncio*"),
        (MARKED_FOR_ANYIO.format(backend="trio"), "", "*needs asyncio*anyio_backend*"),
        (
            MARKED_FOR_ANYIO.format(backend="asyncio"),
            "--asyncio-mode=auto",
            "*marked for anyio and run by pytest-asyncio*strict mode*",
        ),
        (
            "def test(redis_url): pass",
            "--aioredis-kit-server=/nowhere/redis-server",
            "*'/nowhere/redis-server'*isn't an executable file*",
        ),
    ],
    ids=["synchronous", "unmarked", "trio", "two runners", "no binary"],
)
def test_what_cannot_be(project, source, argument, message):
    """A fixture that can't be had fails its test with a remedy, not with a traceback."""
    project.makeconftest("")
    result = run(project, source, *filter(None, [argument]), errors=1)
    result.stdout.fnmatch_lines([message])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_options_exclude_each_other(project):
    """A URL and a binary can't both be given on the command line."""
    project.makeconftest("")
    options = ["--aioredis-kit-url=redis://h", "--aioredis-kit-server=redis-server"]
    result = run(project, "def test(redis_url): pass", *options, errors=1)
    result.stdout.fnmatch_lines(["*exclude each other*"])


def test_nothing_is_started_unless_requested(project, monkeypatch):
    """A run that doesn't use the fixtures doesn't look for a server."""
    monkeypatch.setenv("AIOREDIS_KIT_TEST_SERVER", "/nowhere")
    project.makeconftest("")
    run(project, "def test(): pass", passed=1)


def test_loading_imports_nothing():
    """Loading the plugin imports nothing outside its own modules."""
    code = (
        "import sys, pytest; before = set(sys.modules); import aioredis_kit.pytest_plugin; "
        "print(*(set(sys.modules) - before))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(pytest_plugin.__file__).parents[1])}
    output = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert set(output.split()) <= {
        "__future__",
        "importlib",
        "aioredis_kit",
        "aioredis_kit.pytest_plugin",
        "aioredis_kit.testing",
        "aioredis_kit.testing.fixtures",
        "aioredis_kit.testing.guard",
        "aioredis_kit.testing.plugin_options",
    }


def test_time_per_test(project, tmp_path):
    """The client adds less than 5 ms to a test."""
    project.makeconftest(
        CONFTEST
        + f"""
import json
spent = {{}}

def pytest_runtest_logreport(report):
    name = report.nodeid.partition("::")[2].partition("[")[0]
    spent.setdefault(name, {{}}).setdefault(report.nodeid, []).append(report.duration)

def pytest_sessionfinish():
    totals = {{name: [sum(each) for each in of.values()] for name, of in spent.items()}}
    with open({str(tmp_path / "spent")!r}, "w") as file:
        json.dump(totals, file)
"""
    )
    source = """
import pytest

@pytest.mark.parametrize("number", range(101))
async def test_without(number):
    pass

@pytest.mark.parametrize("number", range(101))
async def test_with(number, redis_client):
    pass
"""
    run(project, source, "--asyncio-mode=auto", passed=202)
    spent = json.loads((tmp_path / "spent").read_text())
    # The least, not the median: other load on this machine isn't the fixture's.
    assert min(spent["test_with"]) - min(spent["test_without"]) < 0.005
