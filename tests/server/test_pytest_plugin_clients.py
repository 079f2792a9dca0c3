"""The clients of a test: those that the fixture `redis_client_factory` makes, and those that are left open."""

from __future__ import annotations

import re

import pytest

from tests.support.projects import make_project, run

pytest_plugins = ["pytester"]


@pytest.fixture
def project(pytester, monkeypatch):
    return make_project(pytester, monkeypatch)


# The factory.

FACTORY = """
import pytest
from aioredis_kit import ConfigurationError, ConnectError, create_client
{mark}

@pytest.fixture
def redis_client_options():
    return {{"decode_responses": True, "client_name": "mine"}}

async def test_many(redis_client, redis_client_factory, redis_url):
    first = await redis_client_factory()
    second = await redis_client_factory(decode_responses=False)
    assert first.is_ready and second.is_ready
    assert first is not second is not redis_client
    await first.set("k", "v")
    assert (await first.get("k"), await second.get("k")) == ("v", b"v")
    assert await redis_client.get("k") == "v"  # one database
    assert await second.client_getname() == "mine"
    await first.close()  # may be done, too
    elsewhere = await redis_client_factory(redis_url.rpartition("/")[0] + "/0")
    assert await elsewhere.get("k") is None

async def test_what_fails_is_closed(redis_client_factory):
    with pytest.raises(ConnectError):
        await redis_client_factory("redis://127.0.0.1:1", reconnect_strategy=False)
    with pytest.raises(ConfigurationError):
        await redis_client_factory(no_such_option=1)

class TestClass:
    async def test_in_a_fixture(self, pair):
        first, second = pair
        await first.set("k", "v")
        assert await second.get("k") == "v"
"""
PAIR = """
@pytest_asyncio.fixture{scope}
async def pair(redis_client_factory):
    return [await redis_client_factory() for _ in range(2)]
"""


@pytest.mark.parametrize("scope", ["function", pytest.param("session", marks=pytest.mark.only_long)])
def test_a_factory_under_pytest_asyncio(project, scope):
    source = FACTORY.format(mark=f"pytestmark = pytest.mark.asyncio(loop_scope='{scope}')")
    source += "import pytest_asyncio\n" + PAIR.format(scope=f"(loop_scope='{scope}')")
    run(project, source, "--asyncio-mode=strict", "--asyncio-debug", passed=3)


@pytest.mark.only_long
def test_a_factory_under_anyio(project):
    source = FACTORY.format(mark="pytestmark = pytest.mark.anyio")
    source += PAIR.format(scope="").replace("pytest_asyncio.", "pytest.")
    source += "@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'\n"
    run(project, source, "-p", "no:asyncio", passed=3)


def test_a_factory_closes_the_last_first(project):
    source = """
import pytest

@pytest.fixture
def ended():
    ended = []
    yield ended
    assert ended == [2, 1, 0]

async def test(ended, redis_client_factory):
    for number in range(3):
        client = await redis_client_factory()
        client.on("end", lambda number=number: ended.append(number))
"""
    run(project, source, "--asyncio-mode=auto", passed=1)


# The guard.

LEAVES = """
import asyncio
import gc
import threading

import pytest

from aioredis_kit import ClientRegistry, create_client
from aioredis_kit.testing import RedisServer

async def open_one(redis_url):
    client = create_client(redis_url)
    await client.ping()
    return client
"""

OPEN = {
    "opened": """
async def test(redis_url):
    await open_one(redis_url)
""",
    "kept": """
kept = []

async def test(redis_url):
    kept.append(await open_one(redis_url))
""",
    "kept on a loop that goes on": """
kept = []

@pytest.mark.asyncio(loop_scope="module")
async def test(redis_url):
    kept.append(await open_one(redis_url))
""",
    "connecting": """
async def test():
    asyncio.ensure_future(create_client("redis://127.0.0.1:1").ping())
    await asyncio.sleep(0)
""",
    "a duplicate": """
async def test(redis_client):
    await redis_client.duplicate().connect()
""",
    "a fixture": """
@pytest.fixture
async def client(redis_url):
    return await open_one(redis_url)

async def test(client):
    assert await client.ping()
""",
    "of a registry without a block": """
async def test(redis_url):
    await ClientRegistry(lambda _: create_client(redis_url)).get().ping()
""",
    "synchronous": """
def test(redis_url):
    asyncio.run(open_one(redis_url))
""",
    "in a thread": """
def test(redis_url):
    thread = threading.Thread(target=lambda: asyncio.run(open_one(redis_url)))
    thread.start()
    thread.join()
""",
    "a loop that was closed": """
kept = []

def test(redis_url):
    loop = asyncio.new_event_loop()
    kept.append(loop.run_until_complete(open_one(redis_url)))
    loop.close()

def teardown_module():
    kept.pop().destroy()  # it says for itself that its loop was closed, and is open no more
""",
}
IGNORE_WARNINGS = ["-W", "ignore::ResourceWarning", "-W", "ignore::pytest.PytestUnraisableExceptionWarning"]
"""What is left behind is noted elsewhere, too."""


def add_files(project, sources):
    """Make a file of each source, with a test before and after."""
    before, after = "async def test_a_before(redis_client): pass\n", "async def test_z_after(redis_client): pass\n"
    files = {f"test_{re.sub(' ', '_', name)}": LEAVES + before + source + after for name, source in sources.items()}
    project.makepyfile(**files)


def test_a_client_that_is_left_open_fails_its_test(project):
    """And nothing else: neither the test before it nor the one after it."""
    project.makeconftest("")
    add_files(project, OPEN)
    arguments = ["--asyncio-mode=auto", *IGNORE_WARNINGS]
    result = run(project, "", *arguments, passed=3 * len(OPEN), errors=len(OPEN))
    text = result.stdout.str()
    assert text.count("ERROR at teardown of test _") == text.count("\nthe test left a client open: ") == len(OPEN)


def test_the_place_is_named(project):
    project.makeconftest("")
    source = LEAVES + "async def test(redis_url):\n    await open_one(redis_url)\n    await open_one(redis_url)\n"
    result = run(project, source, "--asyncio-mode=auto", *IGNORE_WARNINGS, passed=1, errors=1)
    text = result.stdout.str()
    (path,) = project.path.glob("test_*.py")
    number = 1 + path.read_text().splitlines().index("    client = create_client(redis_url)")
    (message,) = re.findall("^the test left 2 clients open: .*", text, re.MULTILINE)  # CI's summary says it again
    assert message.count(f"made at {path}:{number} in open_one") == 2
    assert "have the fixture redis_client_factory make it" in text


CLOSED = {
    "closed": """
async def test(redis_url):
    async with create_client(redis_url) as client:
        await client.ping()
    await (await open_one(redis_url)).close()
    await (await open_one(redis_url)).aclose()
    (await open_one(redis_url)).destroy()
    create_client(redis_url)  # never opened
""",
    "closed in a thread": """
async def work(redis_url):
    async with create_client(redis_url) as client:
        await client.ping()

async def test(redis_url):
    await asyncio.to_thread(lambda: asyncio.run(work(redis_url)))
""",
    "cancelled": """
async def work(redis_url):
    async with create_client(redis_url) as client:
        await client.blpop("k", 0)

async def test(redis_url):
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(work(redis_url), 0.05)
""",
    "given up": """
async def test():
    client = create_client("redis://127.0.0.1:1", reconnect_strategy=False)
    with pytest.raises(ConnectionError):
        try:
            await client.ping()
        except Exception as exc:
            raise ConnectionError from exc
""",
    "a fixture of the module": """
@pytest.fixture(scope="module")
async def client(redis_server):
    async with create_client(redis_server.url) as client:
        yield client

@pytest.mark.asyncio(loop_scope="module")
async def test(client):
    assert await client.ping()
""",
    "opened by another test than its fixture's first": """
@pytest.fixture(scope="module")
async def client(redis_server):
    client = create_client(redis_server.url)
    yield client
    await client.close()

@pytest.mark.asyncio(loop_scope="module")
async def test(client):
    assert await client.ping()
""",
    "of a registry of the module": """
@pytest.fixture(scope="module")
async def clients(redis_server):
    async with ClientRegistry(lambda _: create_client(redis_server.url)) as clients:
        yield clients

@pytest.mark.asyncio(loop_scope="module")
async def test(clients):
    assert await clients.get().ping()
""",
    "of the module": """
clients = []

def setup_module():
    clients.append(create_client("redis://127.0.0.1:1"))

async def test():
    await clients[0].close()
""",
    "marked": """
@pytest.mark.leaves_redis_clients_open(reason="it is about that")
async def test(redis_url):
    await open_one(redis_url)
""",
}


def test_who_closes_is_left_in_peace(project):
    project.makeconftest("")
    add_files(project, CLOSED)
    scope = ["-o", "asyncio_default_fixture_loop_scope=module"]
    arguments = ["--asyncio-mode=auto", "--strict-markers", *scope, *IGNORE_WARNINGS]
    run(project, "", *arguments, passed=3 * len(CLOSED))


def test_a_test_that_fails_is_not_blamed_twice(project):
    project.makeconftest("")
    source = LEAVES + "async def test(redis_url):\n    await open_one(redis_url)\n    raise ZeroDivisionError\n"
    run(project, source, "--asyncio-mode=auto", *IGNORE_WARNINGS, failed=1)


@pytest.mark.leaves_redis_clients_open(reason="the guard of this run sees it")
@pytest.mark.parametrize("how", ["option", pytest.param("ini", marks=pytest.mark.only_long)])
def test_the_guard_can_be_left_out(project, how):
    project.makeconftest("")
    option, ini = [], []
    if how == "option":
        option.append("--aioredis-kit-open-clients=ignore")
    else:
        ini.append("aioredis_kit_open_clients=ignore")
    source = LEAVES + OPEN["kept"]
    run(project, source, "--asyncio-mode=auto", *option, *IGNORE_WARNINGS, ini=ini, passed=1)
