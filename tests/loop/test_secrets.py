"""No secret appears in a log, a repr, an exception, a traceback or an event (P7)."""

from __future__ import annotations

import asyncio
import copy
import logging
import pickle
import time
import traceback

import pytest
from redis.exceptions import DataError, ResponseError

from aioredis_kit import ConnectError, Credentials, TokenCredentials, create_client
from aioredis_kit.options import TLSOptions, resolve_options
from aioredis_kit.testing import resp
from aioredis_kit.testing.binaries import FoundURL
from aioredis_kit.testing.configuration import Configuration
from tests.support.observing import EventRecord, outcome, turns, until

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


@pytest.mark.shows_secrets("cause", reason="what the provider raises has one in its text")
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


@pytest.mark.shows_secrets("repr", reason="a user name is none, and is shown")
@pytest.mark.pins("P7")
@pytest.mark.parametrize(
    ("url", "options"),
    [
        (f"redis://:{SECRET}@localhost", {"password": "0ther-one"}),
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


@pytest.mark.pins("P7")
@pytest.mark.parametrize("has_listener", [True, False])
async def test_a_new_token_that_is_refused(everything_logged, peer, make_client, has_listener):
    """A server that has AUTH renamed quotes it; the event, or the log line in its place, does not."""
    numbers = iter(range(100))

    def ask():
        return Credentials("ada", f"{SECRET}-{next(numbers)}", expires_at=time.time() + 600)

    provider = TokenCredentials(ask, ratio=0.0, margin=0.0, jitter=0.0)
    peer.on(
        "AUTH", lambda received: resp.error(f"ERR unknown command 'AUTH', with args beginning with: {received.words}")
    )
    client = make_client(credential_provider=provider, reconnect_strategy=0.0)
    events = EventRecord(client) if has_listener else None
    await client.connect()
    await until(lambda: "AUTH" in [each.name for each in peer.commands])
    await turns()
    if has_listener:
        await events.wait_for("error")
        assert SECRET not in all_that_is_said(events.of("error")[0])
    else:
        await until(lambda: "unknown command 'AUTH'" in everything_logged.text)
    assert SECRET not in everything_logged.text


@pytest.mark.pins("P7")
async def test_what_can_not_be_encoded(everything_logged, peer, make_client):
    """An error about the encoding carries the whole text, so none is a context of ours."""
    client = make_client(password=f"{SECRET}-é", encoding="ascii", reconnect_strategy=False)
    assert SECRET not in all_that_is_said(await outcome(client.connect()))
    client = await make_client(encoding="ascii").connect()
    for password in (f"{SECRET}-é", f"{SECRET}-é".encode()):
        error = await outcome(client.execute_command("AUTH", "ada", password))
        assert isinstance(error, ValueError | DataError)
        assert SECRET not in all_that_is_said(error)
    assert SECRET not in everything_logged.text


@pytest.mark.pins("P7")
async def test_asyncios_debug_mode(everything_logged, peer, make_client):
    """It logs the callbacks that took long, here all of them, and with them what futures and callbacks hold."""
    asyncio.get_running_loop().slow_callback_duration = 0.0
    client = await make_client(credential_provider=lambda: ("ada", SECRET), client_name="me").connect()
    await client.execute_command("GET", "k")
    await client.close()
    client = await make_client(password=SECRET).connect()
    await client.auth(SECRET, "ada")
    await client.close()
    assert "Executing <" in everything_logged.text
    assert SECRET[:10] not in everything_logged.text


@pytest.mark.pins("P7")
async def test_a_pipelines_refusal_that_quotes(everything_logged, peer, client):
    """What is said of the command is ours to say; one command's refusal is the server's, raised as it is."""
    text = f"ERR Error in ACL SETUSER modifier '<{SECRET}': The password does not exist"
    peer.on("ACL", resp.error(text))
    error = await outcome(
        client.pipeline(transaction=False).execute_command("ACL SETUSER", "a", f"<{SECRET}").execute()
    )
    assert SECRET not in all_that_is_said(error)


@pytest.mark.pins("P7")
@pytest.mark.shows_secrets("exception", "repr", reason="nobody can know that it is one; the text is the server's")
async def test_one_commands_refusal_is_the_servers(everything_logged, peer, client):
    """Whoever sent it gets it unchanged; nobody else does."""
    events = EventRecord(client)
    peer.on("AUHT", resp.error(f"ERR unknown command 'AUHT', with args beginning with: '{SECRET}'"))
    error = await outcome(client.execute_command("AUHT", SECRET))
    assert SECRET in str(error)
    assert SECRET not in everything_logged.text
    assert events.names == []


@pytest.mark.pins("P7")
async def test_a_refusal_that_nobody_asked_for(everything_logged, peer, make_client):
    """It says why the connection was dropped; not what the server quotes."""
    client = make_client(reconnect_strategy=0.0, password=SECRET)
    events = EventRecord(client)
    await client.connect()
    peer.connections[0].send(resp.error(f"ERR unknown command 'AUTH', with args beginning with: '{SECRET}'"))
    await events.wait_for("error")
    said = all_that_is_said(events.of("error")[0])
    assert "unknown command 'AUTH'" in said
    assert SECRET not in said + everything_logged.text


@pytest.mark.pins("P7")
async def test_what_the_kit_for_tests_shows(peer, make_client):
    client = await make_client(password=SECRET, command_timeout=0.05).connect()
    for command in ("AUTH", "ACL SETUSER", "CONFIG SET"):
        args = {"AUTH": (SECRET,), "ACL SETUSER": ("a", f">{SECRET}"), "CONFIG SET": ("requirepass", SECRET)}[command]
        await outcome(client.execute_command(command, *args))
    assert len([each for each in peer.commands if SECRET.encode() in b" ".join(each.words)]) >= 2
    configuration = Configuration(
        password=SECRET, persistence="none", unix_socket=False, tls=None, extra_lines=(f"user ada >{SECRET}",)
    )
    kwargs = client.connection_pool.connection_kwargs.copy()
    assert kwargs["password"] == SECRET
    for each in (peer.commands, configuration, FoundURL(f"redis://:{SECRET}@h", "given"), kwargs):
        assert SECRET not in repr(each)
