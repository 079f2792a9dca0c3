"""Databases are lent empty and taken back empty, and nothing of others is touched."""

import itertools

import pytest

from aioredis_kit.testing import RedisServer, ServerAtURL
from aioredis_kit.testing.databases import Databases, NoDatabaseError
from aioredis_kit.testing.probe import Probe, ServerAddress


@pytest.fixture(scope="module")
def server():
    """A server of this module's own: what is "somebody else's" here is well known."""
    with RedisServer(persistence="aof") as server:
        yield server


@pytest.fixture(autouse=True)
def _emptied(server):
    yield
    with Probe(server.address) as probe:
        probe.call("FLUSHALL")


@pytest.fixture
def foreign(server):
    """The same server, as one that we didn't start."""
    return ServerAtURL(server.url)


def ask(url, *words):
    """Return a reply to one command in the database of a URL."""
    with Probe(ServerAddress.from_url(url)) as probe:
        return probe.call(*words)


def number_of(url):
    """Return a URL's database."""
    return ServerAddress.from_url(url).database


def commands_called(server):
    """Return the commands that the server has run."""
    with Probe(server.address) as probe:
        return {name.removeprefix("cmdstat_") for name in probe.info("commandstats")}


def test_own_server(server):
    """On our server each test gets another database than the one before, and it is emptied."""
    databases, urls = Databases(server), []
    for _ in range(20):
        with databases.lend() as url:
            assert ask(url, "DBSIZE") == 0
            ask(url, "SET", "k", "v")
            urls.append(url)
    assert [ask(url, "DBSIZE") for url in urls] == [0] * 20
    assert {number_of(url) for url in urls} == set(range(1, 16))
    assert all(first != second for first, second in itertools.pairwise(urls))


def test_what_a_worker_that_crashed_has_left(server):
    """The one that takes its place lends its databases empty, too."""
    ask(f"{server.url}/3", "SET", "k", "v")
    ask(f"{server.url}/4", "SET", "others", "v")
    databases = Databases(ServerAtURL(server.url, started_here=True), worker=0, workers=2)
    for _ in range(8):
        with databases.lend() as url:
            assert ask(url, "DBSIZE") == 0
    assert ask(f"{server.url}/4", "DBSIZE") == 1


def test_own_server_with_few_databases():
    """A server with one database lends that one."""
    with RedisServer(config={"databases": 1}) as server:
        databases = Databases(server)
        for _ in range(2):
            with databases.lend() as url:
                assert number_of(url) == 0
                ask(url, "SET", "k", "v")


def test_own_server_is_brought_back(server):
    """A server that the test left dead or paused serves the next test."""
    databases = Databases(server)
    for end in (server.kill, server.pause):
        with databases.lend() as url:
            ask(url, "SET", "k", "v")
            end()
        assert ask(url, "DBSIZE") == 0


def test_emptied_after_a_failure(server):
    """A database is emptied after a test that failed, too."""

    def fail():
        with Databases(server).lend() as url:
            urls.append(url)
            ask(url, "SET", "k", "v")
            raise ZeroDivisionError

    urls = []
    with pytest.raises(ZeroDivisionError):
        fail()
    assert ask(urls[0], "DBSIZE") == 0


def test_foreign_server(server, foreign):
    """On another's server an empty database is chosen and emptied key by key."""
    for number in (0, 3, 15):
        ask(f"{server.url}/{number}", "SET", "theirs", number)
    ask(server.url, "CONFIG", "RESETSTAT")
    databases = Databases(foreign)
    for _ in range(3):
        with databases.lend() as url:
            assert number_of(url) == 14
            ask(url, "MSET", *(word for n in range(2500) for word in (f"k{n}", n)))
            ask(url, "RPUSH", b"\xff\x00binary", "x")
        assert ask(url, "DBSIZE") == 0
    for number in (0, 3, 15):
        assert ask(f"{server.url}/{number}", "GET", "theirs") == str(number).encode()
    assert not commands_called(server) & {"flushdb", "flushall"}


def test_named_database(foreign):
    """The database that the URL names is the one that is lent."""
    databases = Databases(ServerAtURL(f"{foreign.url}/5"))
    with databases.lend() as url:
        assert number_of(url) == 5


def test_named_database_with_keys(foreign):
    """A database of another's server that holds keys is refused, with the remedy."""
    ask(f"{foreign.url}/5", "SET", "theirs", "x")
    databases = Databases(ServerAtURL(f"{foreign.url}/5"))
    with pytest.raises(NoDatabaseError, match=r"5 .* 1 keys.*name an empty one"):
        databases.lend().__enter__()
    assert ask(f"{foreign.url}/5", "GET", "theirs") == b"x"


def test_keys_of_others_come_later(foreign):
    """A database in which somebody begins to write between two tests is refused."""
    databases = Databases(foreign)
    with databases.lend() as url:
        pass
    ask(url, "SET", "theirs", "x")
    with pytest.raises(NoDatabaseError):
        databases.lend().__enter__()
    assert ask(url, "GET", "theirs") == b"x"


def test_no_empty_database(server, foreign):
    """Where no database is empty, none is lent."""
    for number in range(16):
        ask(f"{server.url}/{number}", "SET", "theirs", "x")
    with pytest.raises(NoDatabaseError, match="none of its 16 databases"):
        Databases(foreign).lend().__enter__()


def test_workers_share_a_server_that_was_started_for_them(server):
    """No two have a database in common, and each test of one has another."""
    lent = {worker: set() for worker in range(4)}
    for worker, numbers in lent.items():
        databases = Databases(ServerAtURL(server.url, started_here=True), worker=worker, workers=4)
        for _ in range(8):
            with databases.lend() as url:
                assert ask(url, "DBSIZE") == 0
                ask(url, "SET", "k", "v")
                numbers.add(number_of(url))
    assert sorted(number for numbers in lent.values() for number in numbers) == list(range(1, 16))


def test_too_many_workers_share_a_server(server):
    databases = Databases(ServerAtURL(server.url, started_here=True), worker=15, workers=16)
    with pytest.raises(NoDatabaseError, match="16 databases, too few for 16 xdist workers"):
        databases.lend().__enter__()


def test_workers_share_a_foreign_server(foreign):
    """Each xdist worker has databases of its own, whoever comes first."""
    lent = {}
    for worker in (2, 0, 3, 1):
        with Databases(foreign, worker=worker, workers=4).lend() as url:
            lent[worker] = number_of(url)
            ask(url, "SET", "k", "v")
            with Databases(foreign, worker=worker, workers=4).lend() as next_url:
                assert number_of(next_url) % 4 == number_of(url) % 4
    assert lent == {0: 15, 1: 14, 2: 13, 3: 12}
    named = ServerAtURL(f"{foreign.url}/5")
    with pytest.raises(NoDatabaseError, match="4 xdist workers"):
        Databases(named, worker=1, workers=4).lend().__enter__()
