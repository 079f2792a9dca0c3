"""Ask a server about itself with a client of ours, so that the verdicts are about what the client really does.

Nothing is written, nothing is slow for the server, and what the user may not ask is noted and left out.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import NoPermissionError, RedisError, ResponseError

from aioredis_kit.cli.doctor.facts import Features, Greeting, Latency, Permission, Rights, Server
from aioredis_kit.cli.doctor.wants import CHANNEL, WANTS
from aioredis_kit.cli.server import server_of
from aioredis_kit.client.create import client_of
from aioredis_kit.exceptions import ConnectTimeoutError, KitError, error_code
from aioredis_kit.health import Concern
from aioredis_kit.wire.handshake import cut_quoted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aioredis_kit.cli.doctor.wants import Want
    from aioredis_kit.client.client import RedisClient
    from aioredis_kit.client.session import Session
    from aioredis_kit.options import Options

PINGS: Final = 100
"""How many pings are timed, if there is time for so many."""
_ANSWER: Final = 2.0
"""How long an answer may take, in seconds."""
SETTINGS: Final = (
    *("maxmemory", "maxmemory-policy", "timeout", "maxclients", "client-output-buffer-limit"),
    *("min-replicas-to-write", "stop-writes-on-bgsave-error"),
)


@dataclass(frozen=True, slots=True)
class _Unanswered:
    """What stands for a reply that did not come, or was an error.

    Attributes:
        reason: Why.
        is_reply: Whether it was the server that answered with an error.
        is_refused: Whether that is because the user has not the right to ask.
    """

    reason: str
    is_reply: bool = False
    is_refused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Introductions:
    """What was said on a connection of one's own.

    Attributes:
        said: What the server says of itself in ``HELLO``.
        protocol: Which protocol is spoken: 2 or 3; 0: nobody knows.
        announces_maintenance: See ``Features``.
    """

    said: Mapping[str, str] = field(default_factory=dict)
    protocol: int = 0
    announces_maintenance: bool | None = None


def patient(options: Options, *, timeout: float) -> Options:
    """Return the options of a client that tries once and waits for nothing longer than a visitor would.

    Args:
        options: The client's options.
        timeout: How long it may take to connect, in seconds.
    """
    return options.replaced(
        {
            "reconnect_strategy": False,
            "connect_timeout": min(options.connect_timeout, timeout),
            "command_timeout": _ANSWER,
            "close_timeout": 0.5,
            "connections": 1,
            "single_connection_client": False,
            "decode_responses": True,
            "encoding_errors": "replace",
        }
    )


async def greet(client: RedisClient, *, timeout: float) -> Greeting:
    """Connect, once.

    Cancellation:
        Safe. The client is to be closed.
    """
    causes: list[KitError] = []
    client.on("terminated", causes.append)
    client.on("error", _hear)
    begin = connected = time.perf_counter()

    def opened() -> None:
        nonlocal connected
        connected = time.perf_counter()

    client.on("connect", opened)
    health = await client.health(timeout=timeout)
    seconds = time.perf_counter() - (connected if health.is_ready else begin)
    if any(reason.concern is Concern.NOT_SERVING for reason in health.reasons):
        return Greeting(seconds=seconds, not_serving=health.reasons[0].text)
    if health.is_ready:
        return Greeting(seconds=seconds, is_ready=True)
    await asyncio.sleep(0)  # listeners are called a turn later
    if causes:
        is_late = isinstance(causes[0], ConnectTimeoutError)
        return Greeting(seconds=seconds, error=causes[0], is_late=is_late)
    return Greeting(seconds=seconds, is_late=True)


async def introduce(client: RedisClient) -> Introductions:
    """Learn what is said on a connection of one's own alone: what the server is, and which protocol it speaks.

    Cancellation:
        Safe.
    """
    try:
        async with client.dedicated() as session:
            hello = await _ask(session, "HELLO")
            notices = await _ask(session, "CLIENT", "MAINT_NOTIFICATIONS", "OFF")
    except (RedisError, OSError):  # there may be too many already
        return Introductions()
    announces = None if isinstance(notices, _Unanswered) and notices.is_refused else notices == "OK"
    said = _mapping(hello)
    # A server that does not know the command speaks the older protocol.
    protocol = int(said.get("proto", 0)) or (2 if isinstance(hello, _Unanswered) and hello.is_reply else 0)
    return Introductions(said=said, protocol=protocol, announces_maintenance=announces)


async def survey(client: RedisClient, hello: Mapping[str, str]) -> Server:
    """Ask the server about itself, all at once.

    Args:
        client: A client that is ready.
        hello: What the server has said of itself already.

    Cancellation:
        Safe.
    """
    info, clock, *config = await asyncio.gather(
        _ask(client, "INFO"),
        _ask_clock(client),
        *(_ask(client, "CONFIG", "GET", name) for name in SETTINGS),
    )
    said = _mapping(info)
    mode = hello.get("mode") or said.get("redis_mode") or said.get("server_mode", "")
    cluster = await _ask(client, "CLUSTER", "INFO") if mode == "cluster" else {}
    asked = {"INFO": info, "CONFIG GET": config[0], "CLUSTER INFO": cluster}
    unanswered = {name: reply for name, reply in asked.items() if isinstance(reply, _Unanswered)}
    who = server_of(said, hello)
    return Server(
        name=who.name or ("Redis" if "redis_version" in said else ""),
        version=who.version,
        mode=mode,
        role={"slave": "replica"}.get(role := hello.get("role") or said.get("role", ""), role),
        info=said,
        config={name: value for each in config for name, value in _mapping(each).items()},
        cluster=_mapping(cluster),
        refused={name: reply.reason for name, reply in unanswered.items() if reply.is_reply},
        late=next((reply.reason for reply in unanswered.values() if not reply.is_reply), ""),
        clock_ahead=clock,
    )


async def ask_rights(client: RedisClient, options: Options) -> Rights:
    """Ask what the client's user may do.

    Cancellation:
        Safe.
    """
    who = await _ask(client, "ACL", "WHOAMI")
    user = options.username or "default" if isinstance(who, _Unanswered) else str(who)
    described, *dry = await asyncio.gather(
        _ask(client, "ACL", "GETUSER", user), *(_ask(client, "ACL", "DRYRUN", user, *want.args) for want in WANTS)
    )
    is_dry = not isinstance(dry[0], _Unanswered)
    if is_dry:
        permissions = [_verdict(each) for each in dry]
    else:
        permissions = await asyncio.gather(*(_try(client, want) for want in WANTS))
    names = [want.name for want in WANTS]
    said = _mapping(described)
    return Rights(
        user=user,
        permissions=dict(zip(names, permissions, strict=True)),
        patterns=_patterns(said),
        is_open="nopass" in said.get("flags", "").split(),
        is_dry=is_dry,
    )


async def try_tracking(options: Options, protocol: int) -> Features:
    """Find out whether a cache works: connect a client that wants to be told of changes.

    Args:
        options: Those of the client that is connected.
        protocol: What that one speaks; 0: nobody knows.

    Cancellation:
        Safe.
    """
    if protocol == 2:
        return Features(tracking_error="it needs RESP3, and here RESP2 is spoken")
    other = client_of(options if options.tracking is not None else options.replaced({"emit_invalidate": True}))
    other.on("error", _hear)
    try:
        _ = await other.connect()
    except KitError as error:
        return Features(tracking_error=str(error).partition(";")[0])  # the rest is advice
    finally:
        await other.close()
    return Features(is_tracking=True)


async def time_pings(client: RedisClient, *, timeout: float) -> Latency:
    """Ping, one after the other, until there were enough or the time is over.

    Cancellation:
        Safe.
    """
    samples: list[float] = []
    error = ""
    clock, lag = time.perf_counter, client.statistics().loop_lag.total
    end = clock() + timeout
    while len(samples) < PINGS and (begin := clock()) < end:
        try:
            await client.execute_command("PING")
        except NoPermissionError:  # which took as long, and is no trouble
            pass
        except ResponseError as refusal:
            error = f"{error_code(refusal)}: {refusal}"
        except (RedisError, OSError) as failure:
            error = str(failure)
            break
        samples.append(clock() - begin)
    return Latency(samples=tuple(samples), lag=client.statistics().loop_lag.total - lag, error=error)


def _hear(_: Exception) -> None:
    """Keep errors out of the log: they are what this is about."""


async def _ask(client: RedisClient | Session, *args: str) -> Any:
    try:
        return await client.execute_command(*args)
    except ResponseError as error:
        # Some servers quote what they don't know.
        return _Unanswered(cut_quoted(str(error)), is_reply=True, is_refused=isinstance(error, NoPermissionError))
    except (RedisError, OSError) as error:
        return _Unanswered(str(error))


async def _ask_clock(client: RedisClient) -> float | None:
    """Return by how much the server's clock is ahead, in seconds; its answer was given half way, as far as we know."""
    before = time.time()
    answer = await _ask(client, "TIME")
    after = time.time()
    if not isinstance(answer, list | tuple):
        return None
    seconds, microseconds = answer
    return int(seconds) + int(microseconds) / 1e6 - (before + after) / 2


async def _try(client: RedisClient, want: Want) -> Permission:
    if not want.is_harmless:
        return Permission.UNKNOWN
    answer = await (_try_subscribing(client) if want.name == "SUBSCRIBE" else _ask(client, *want.args))
    if isinstance(answer, _Unanswered):
        return _refusal(answer.reason) if answer.is_refused else Permission.UNKNOWN
    return Permission.GRANTED


async def _try_subscribing(client: RedisClient) -> _Unanswered | None:
    try:
        async with asyncio.timeout(_ANSWER), client.subscribe(CHANNEL):
            return None
    except NoPermissionError as error:
        return _Unanswered(str(error), is_reply=True, is_refused=True)
    except (RedisError, OSError) as error:  # a time-out is one, too
        return _Unanswered(str(error))


def _verdict(dry: Any) -> Permission:
    if isinstance(dry, _Unanswered):  # the server knows no such command
        return Permission.UNKNOWN
    return Permission.GRANTED if dry == "OK" else _refusal(str(dry))


def _refusal(text: str) -> Permission:
    """Tell whether it is the command that is refused, or what it is to be done with."""
    return Permission.REFUSED if "to run the" in text else Permission.ELSEWHERE


def _patterns(described: Mapping[str, str]) -> str:
    """Return the keys and channels that a user may use; of the rest, hashes of passwords are a part."""
    parts = (f"{word}: {described[word] or 'none'}" for word in ("keys", "channels") if word in described)
    return "; ".join(parts)


def _mapping(reply: Any) -> dict[str, str]:
    """Return a map, in whichever protocol and shape it came, as text; empty, if it is none."""
    if isinstance(reply, str):
        reply = dict(line.split(":", 1) for line in reply.splitlines() if ":" in line)
    if isinstance(reply, list | tuple):
        reply = dict(zip(reply[::2], reply[1::2], strict=False))
    if not isinstance(reply, dict):
        return {}
    return {str(name): _text(value) for name, value in reply.items()}


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return " ".join(map(_text, value))
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
