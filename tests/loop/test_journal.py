"""What a client logs about its state: each change once, with fields, and with no key or secret."""

from __future__ import annotations

import asyncio
import logging

import pytest

from aioredis_kit import ConnectError
from aioredis_kit.client.journal import Journal
from aioredis_kit.client.listeners import Listeners
from aioredis_kit.events import Reauthenticated, Renewed
from tests.support.observing import until

JOURNAL = "aioredis_kit.client.journal"


@pytest.fixture
def lines(caplog):
    """Level, event and text of each record."""
    caplog.set_level(logging.DEBUG, "aioredis_kit")

    def read(least=logging.INFO):
        return [
            (each.levelname, each.redis_event, each.getMessage().partition(": ")[2])
            for each in caplog.records
            if each.name == JOURNAL and each.levelno >= least
        ]

    return read


async def test_each_change_once(peer, make_client, lines, caplog):
    client = make_client(reconnect_strategy=0.001)
    client.on("error", lambda _: None)
    await client.connect()
    await client.set("key-of-ada", "value-of-ada")
    assert lines() == [("INFO", "ready", "ready, protocol 3")]
    losses = client.statistics().connections.losses
    peer.connections[0].close()
    await until(lambda: client.statistics().connections.losses > losses and client.is_ready)
    level, event, text = lines()[1]
    assert (level, event) == ("WARNING", "reconnecting")
    assert text.startswith("the connection was lost (")
    assert text.endswith("closed the connection); trying again")
    level, event, text = lines()[2]
    assert (level, event) == ("INFO", "ready")
    assert text.startswith("ready again after 0.")
    await client.close()
    assert len(lines()) == 3
    assert lines(logging.DEBUG)[-1] == ("DEBUG", "end", "closed")
    for record in caplog.records:
        if record.name == JOURNAL:
            assert (
                record.redis_address
                == f"{client.get_connection_kwargs()['host']}:{client.get_connection_kwargs()['port']}"
            )
    assert [record.redis_again for record in caplog.records if getattr(record, "redis_event", "") == "ready"] == [
        False,
        True,
    ]
    assert "key-of-ada" not in caplog.text
    assert "value-of-ada" not in caplog.text


async def test_attempts_are_no_changes(make_client, lines, unused_port):
    client = make_client(f"redis://127.0.0.1:{unused_port}", reconnect_strategy=lambda n, _: 0.0 if n < 20 else False)
    client.on("error", lambda _: None)
    with pytest.raises(ConnectError):
        await client.connect()
    (first, last) = lines()
    assert first[:2] == ("WARNING", "reconnecting")
    assert first[2].startswith("there is no connection yet (")
    assert last[:2] == ("WARNING", "terminated")
    assert last[2].startswith("gave up: ")
    assert [each[1] for each in lines(logging.DEBUG)].count("attempt") == 19


async def test_where_nobody_listens_to_errors_those_are_the_warnings(peer, make_client, lines, caplog):
    client = make_client(reconnect_strategy=0.001)
    await client.connect()
    peer.connections[0].close()
    await until(lambda: len(lines()) == 3)
    assert {level for level, *_ in lines()} == {"INFO"}
    (warning,) = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert (warning.redis_event, warning.redis_error) == ("error", "ConnectionLostError")


async def test_what_the_users_own_code_raises_is_not_shown(make_client, lines, unused_port):
    def strategy(retries, cause):
        raise RuntimeError("words of the user")

    client = make_client(f"redis://127.0.0.1:{unused_port}", reconnect_strategy=strategy, initial_connect_timeout=0.2)
    client.on("error", lambda _: None)
    await asyncio.gather(client.connect(), return_exceptions=True)
    assert lines()
    assert "words of the user" not in "".join(text for *_, text in lines(logging.DEBUG))


def test_credentials_and_the_older_protocol(caplog, lines):
    journal = Journal("localhost:1", lambda: 0.0, Listeners())
    journal.happened(Renewed(5.0))
    journal.happened(Reauthenticated())
    journal.fell_back()
    journal.fell_back()
    assert lines(logging.DEBUG) == [
        ("INFO", "credentials-renewed", "has new credentials"),
        ("DEBUG", "reauthenticated", "a connection has authenticated with new credentials"),
        ("WARNING", "protocol", "RESP2 is spoken"),
    ]
    assert [each.redis_address for each in caplog.records] == ["localhost:1"] * 3
    assert caplog.records[0].redis_expires_at == 5.0
