"""Views: one client, whose commands have other options; and what of redis-py's spelling has no effect."""

from __future__ import annotations

import asyncio
import logging

import pytest

from aioredis_kit import create_client
from aioredis_kit.exceptions import ClientClosedError, CommandTimeoutError, ConfigurationError, ConnectionLostError
from aioredis_kit.testing import resp
from tests.support.observing import EventRecord, outcome, until


@pytest.mark.pins("case-14", "4.8")
async def test_a_view_has_its_own_time_out(peer, make_client):
    """A partial override keeps the rest; None is no limit; the client's own stays."""
    client = await make_client(command_timeout=30, decode_responses=True, ping_timeout=10).connect()
    peer.on("PING", None)  # the doubt that the time-out raises: answered in its turn
    hasty = client.with_options(command_timeout=0.02)
    error = await outcome(hasty.execute_command("SLOW"))
    assert isinstance(error, CommandTimeoutError)
    assert error.diagnosis.timeout == 0.02
    peer.on("ECHO", lambda each: resp.bulk(each.words[1]))
    await peer.wait_for_command("PING", count=2)
    peer.connections[0].send(resp.simple("late"), resp.simple("PONG"))
    assert await hasty.echo("x") == "x"
    assert hasty.with_options(command_timeout=None)._options.timeout is None
    assert hasty.with_options(decode_responses=False)._options.timeout == 0.02
    assert client._options.timeout == 30


@pytest.mark.pins("P1", "4.16")
async def test_views_decode_each_its_own_replies(peer, client):
    """In one pipeline of commands, text and bytes mixed."""
    text = client.with_options(decode_responses=True)
    again = text.with_options(decode_responses=False)
    views = [client, text, again, text, client, again] * 20
    replies = await asyncio.gather(*(view.get(str(number)) for number, view in enumerate(views)))
    expected = [str(number) if view is text else str(number).encode() for number, view in enumerate(views)]
    assert replies == expected
    assert [type(reply) for reply in replies] == [str if view is text else bytes for view in views]
    assert len(peer.connections) == 1


@pytest.mark.pins("4.11")
async def test_a_view_has_its_own_mind_about_retries(peer, client):
    """What is sent again is decided by the view that issued it."""
    peer.on("GET", None)
    careful = asyncio.create_task(client.with_options(retry_unanswered="never").get("careful"))
    usual = asyncio.create_task(client.get("usual"))
    await peer.wait_for_command("GET", count=2)
    peer.on("GET", resp.bulk("x"))
    peer.connections[0].close()
    assert isinstance(await outcome(careful), ConnectionLostError)
    assert await usual == b"x"


async def test_a_view_has_its_own_callbacks(peer, client):
    """Copied from the client's; changed, they change nothing for others; before and after the first use."""
    client.set_response_callback("GET", lambda reply: ("client", reply))
    view = client.with_options(command_timeout=1)
    view.set_response_callback("get", lambda reply: ("view", reply))
    assert await client.get("k") == ("client", b"k")
    assert await view.get("k") == ("view", b"k")
    assert await view.execute_command("get", "k") == ("view", b"k")
    view.set_response_callback("GET", lambda reply: ("changed", reply))
    assert await view.get("k") == ("changed", b"k")
    del view.response_callbacks["GET"]
    assert await view.get("k") == b"k"
    assert await client.get("k") == ("client", b"k")

    async def asynchronous(reply, **_):
        return "awaited", reply

    client.set_response_callback("GET", asynchronous)
    assert await client.get("k") == ("awaited", b"k")


@pytest.mark.pins("4.15", "P1")
async def test_a_callback_that_raises_is_its_callers_business(peer, client):
    """Others go on."""
    client.set_response_callback("GET", lambda reply: 1 / 0)
    results = await asyncio.gather(client.get("a"), client.set("k", 1), client.get("b"), return_exceptions=True)
    assert [type(result) for result in results] == [ZeroDivisionError, bool, ZeroDivisionError]


@pytest.mark.pins("4.19", "5.4")
async def test_a_view_is_the_client(peer, client):
    """The same connection, events, state and end."""
    view = client.with_options(decode_responses=True)
    events = EventRecord(view)
    assert (view.is_open, view.is_ready, view.state) == (True, True, client.state)
    assert await view.connect() is view
    await view.close()
    assert not client.is_open
    with pytest.raises(ClientClosedError):
        await client.get("k")
    assert events.names == ["end"]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"command_timeout": "1"}, "command_timeout"),
        ({"command_timeout": 0}, "command_timeout"),
        ({"decode_responses": 1}, "decode_responses"),
        ({"retry_unanswered": "always"}, "retry_unanswered"),
        ({"retry_unanswered": None}, "retry_unanswered"),
    ],
)
async def test_a_view_with_options_that_make_no_sense(client, options, text):
    """Refused when it is made."""
    with pytest.raises(ConfigurationError, match=text):
        client.with_options(**options)
    with pytest.raises(TypeError):
        client.with_options(host="elsewhere")


@pytest.mark.pins("4.1")
async def test_options_without_effect_are_logged_once(peer, caplog):
    """redis-py's options about retries are accepted; one line says that they do nothing here."""
    caplog.set_level(logging.INFO)
    client = create_client(peer.url, retry_on_timeout=True, retry_on_error=[ConnectionError])
    async with client:
        await client.get("k")
    await client.connect()
    view = client.with_options(command_timeout=1)
    await view.get("k")
    await client.close()
    lines = [each.getMessage() for each in caplog.records if "retry_on_timeout" in each.getMessage()]
    assert len(lines) == 1
    assert "retry_on_error" in lines[0]


async def test_awaiting_a_client(peer, make_client):
    """As redis-py's: it returns the client, and connecting is left to the first command."""
    client = make_client()
    assert await client is client
    assert not client.is_open
    assert await client.get("k") == b"k"
    await until(lambda: client.is_ready)
