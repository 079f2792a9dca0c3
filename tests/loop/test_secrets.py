"""No secret appears in a log, a repr, an exception, a traceback or an event (P7)."""

from __future__ import annotations

import asyncio
import copy
import logging
import pickle
import traceback

import pytest
from redis.exceptions import ResponseError

from aioredis_kit import ConnectError, Credentials, create_client
from aioredis_kit.options import TLSOptions, resolve_options
from aioredis_kit.testing import resp
from tests.support.observing import EventRecord, outcome, turns

SECRET = "p4ss-w0rd-that-nobody-may-see"  # it is what this is about


@pytest.fixture
async def everything_logged(caplog):
    """Everything that is logged by anybody, asyncio in debug mode included."""
    caplog.set_level(logging.DEBUG)
    for name in ("asyncio", "aioredis_kit", "redis"):
        caplog.set_level(logging.DEBUG, logger=name)
    asyncio.get_running_loop().set_debug(True)
    return caplog


def all_that_is_said(error):
    """An exception's text, repr, fields and traceback, and those of its causes."""
    said = []
    while error is not None:
        said += [str(error), repr(error), repr(vars(error)), *traceback.format_exception(error)]
        error = error.__cause__ or error.__context__
    return "\n".join(said)


REFUSALS = {
    "wrong password": "WRONGPASS invalid username-password pair or user is disabled.",
    "too old for HELLO": f"ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `default`, `{SECRET}`, ",
    "repeats what it got": f"ERR bad command: HELLO 3 AUTH default {SECRET}",
    "quotes it": f"ERR 'AUTH' \"{SECRET}\" {SECRET!r}",
}


@pytest.mark.pins("P7")
@pytest.mark.parametrize("transaction", [True, False])
@pytest.mark.parametrize(
    "command",
    [
        ("CONFIG", "SET", "requirepass", SECRET, "nosuch", "x"),
        ("CONFIG SET", "masterauth", SECRET),
        ("ACL", "SETUSER", "ada", "+nosuch", f">{SECRET}"),
        ("AUTH", "ada", SECRET, "too many"),
        ("AUTH", SECRET),
        (b"HELLO", b"3", b"AUTH", b"ada", SECRET.encode()),
    ],
    ids=["CONFIG SET", "CONFIG SET as one word", "ACL SETUSER", "AUTH with too much", "AUTH", "HELLO as bytes"],
)
async def test_refused_in_a_pipeline(everything_logged, peer, client, command, transaction):
    """Which command it was is said, as redis-py does, but not what is nobody's business."""
    refusal = resp.error("ERR refused")
    for name in ("CONFIG", "ACL", "AUTH"):
        peer.on(name, refusal)
    peer.on("HELLO", lambda received: refusal if SECRET.encode() in received.words else resp.mapping({}))
    peer.on("MULTI", resp.simple("OK"))
    peer.on("EXEC", resp.error("EXECABORT Transaction discarded because of previous errors."))
    pipe = client.pipeline(transaction=transaction).get("k")
    pipe.execute_command(*command)
    error = await outcome(pipe.execute())
    assert isinstance(error, ResponseError)
    assert "Command # 2 (" in str(error)
    assert "***" in str(error)
    assert SECRET not in all_that_is_said(error)
    assert SECRET not in everything_logged.text


@pytest.mark.pins("P7")
@pytest.mark.parametrize("protocol", [2, 3, None])
@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS.keys())
async def test_refused_credentials(everything_logged, peer, make_client, refusal, protocol):
    """Whatever a server makes of them in its answer."""
    peer.on("HELLO", resp.error(refusal))
    peer.on("AUTH", resp.error(refusal))
    client = make_client(protocol=protocol, password=SECRET, reconnect_strategy=False)
    events = EventRecord(client)
    said = all_that_is_said(await outcome(client.connect()))
    said += "".join(all_that_is_said(error) for error in events.of("error") + events.of("terminated"))
    said += all_that_is_said(await outcome(client.get("k")))
    assert SECRET not in said
    assert SECRET not in everything_logged.text
    assert SECRET.encode() in b"".join(peer.connections[0].chunks)


@pytest.mark.pins("P7")
async def test_a_life_with_everything_in_it(everything_logged, peer, make_client):
    """Connecting, commands, a loss, a time-out, a full queue, the end: nothing that is said holds the password."""
    client = make_client(
        f"redis://ada:{SECRET}@{peer.host}:{peer.port}",
        reconnect_strategy=0.0,
        command_timeout=0.05,
        ping_timeout=0.05,
        commands_queue_max_length=2,
        queue_full="raise",
    )
    events = EventRecord(client)
    await client.connect()
    said = [repr(client), repr(client.with_options(command_timeout=1)), repr(client.connection_pool.connection_kwargs)]
    said.append(repr(client.get_connection_kwargs()))
    said.append(repr(vars(client)))
    peer.on("PING", lambda received: resp.simple("PONG") if received.chunk == 0 else None)  # for the handshake only
    errors = await asyncio.gather(
        *(client.execute_command("CONFIG", "SET", "requirepass", SECRET) for _ in range(4)), return_exceptions=True
    )
    await events.wait_for("ready", 2)
    errors.append(await outcome(client.execute_command("FOO", SECRET)))
    errors.append(await outcome(client.execute_command("AUTH", SECRET)))
    errors.append(await outcome(client.execute_command("HELLO", 3, "AUTH", "default", SECRET)))
    errors.append(await outcome(client.execute_command("SET", "k", [SECRET])))
    await events.wait_for("ready", 3)
    peer.connections[-1].send(b"garbage\r\n")
    await events.wait_for("ready", 4)
    said += [repr(task) for task in asyncio.all_tasks()]
    client.destroy()
    errors.append(await outcome(client.get("k")))
    said += [all_that_is_said(error) for error in errors if isinstance(error, Exception)]
    said += [repr(event) for event in events]
    said += [all_that_is_said(error) for error in events.of("error")]
    await turns()
    assert len([error for error in errors if isinstance(error, Exception)]) >= 8
    assert SECRET not in "\n".join(said)
    assert SECRET not in everything_logged.text


@pytest.mark.pins("P7")
@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("failure", ["raises", "returns nonsense", "has an expiry"])
async def test_a_provider_that_says_too_much(everything_logged, peer, make_client, is_async, failure):
    """What it raises or returns may hold the token: the error's own text names the kind only."""

    def ask():
        if failure == "raises":
            raise ValueError(f"token {SECRET} has expired")
        if failure == "has an expiry":
            return Credentials("ada", SECRET, expires_at=1.0)
        return [SECRET]

    async def ask_asynchronously():
        return ask()

    client = make_client(credential_provider=ask_asynchronously if is_async else ask, reconnect_strategy=False)
    events = EventRecord(client)
    error = await outcome(client.connect())
    assert isinstance(error, ConnectError)
    for each in (error, *events.of("error"), *events.of("terminated")):
        assert SECRET not in str(each)
        assert SECRET not in repr(each)
    assert SECRET not in everything_logged.text
    assert SECRET not in repr(client._core.equipment)


@pytest.mark.pins("P7")
async def test_values_that_show_themselves():
    """The reprs of options and credentials, copies included."""
    options = resolve_options(f"rediss://ada:{SECRET}@localhost", {"ssl_password": SECRET})
    values = [options, options.tls, options.credentials, Credentials("ada", SECRET), TLSOptions(key_password=SECRET)]
    for value in values:
        assert SECRET not in repr(value)
        assert SECRET not in repr(copy.copy(value))
        assert SECRET not in repr(pickle.loads(pickle.dumps(value)))  # our own


@pytest.mark.pins("P7")
@pytest.mark.parametrize(
    ("url", "options"),
    [
        (f"redis://:{SECRET}@localhost", {"password": "other"}),
        (f"redis://:{SECRET}@localhost/x", {}),
        (f"redis://:{SECRET}@local host", {}),
        (f"redis://ada:{SECRET}@localhost:port", {}),
        (f"redis://localhost?password={SECRET}&db=x", {}),
        (f"nonsense://:{SECRET}@localhost", {}),
        (None, {"password": [SECRET]}),
        (None, {"host": f"redis://:{SECRET}@localhost"}),
        (None, {"passwort": SECRET}),
        (None, {"username": SECRET, "credential_provider": lambda: None}),
        (None, {"port": SECRET}),
    ],
)
def test_options_that_are_refused(url, options):
    """The error names the option, never a value that may be a secret."""
    with pytest.raises(ValueError, match=r".") as caught:
        create_client(url, **options)
    assert SECRET not in all_that_is_said(caught.value)
