"""The options of a client: which there are, what they take, and their other names.

Rules of this file:

1. An option is one entry of ``Options``. Its kind reads it, in the query of a URL too; its meaning is for the
   documentation. What becomes of redis-py's other names is in one table, ``spellings.REDIS_PY``.
2. However it was made, an ``Options`` or ``TLSOptions`` holds only values that its kinds have read, and no
   impossible combination. What is wrong is a ``ConfigurationError`` that names option, problem and remedy.
3. Durations are float seconds. No error and no ``repr`` shows a secret.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field, fields, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from aioredis_kit.cache.options import CacheOptions
from aioredis_kit.cache.store import ClientSideCache
from aioredis_kit.credentials import Credentials
from aioredis_kit.dialects import counterpart
from aioredis_kit.exceptions import ConfigurationError
from aioredis_kit.hooks import CommandHook
from aioredis_kit.kinds import (
    ENCODING,
    ENCODING_ERRORS,
    FLAG,
    HOST,
    INTERVAL,
    KEEP_ALIVE,
    LABEL,
    PROVIDER,
    SECRET,
    SOCKET_PATH,
    STRATEGY,
    TEXT,
    Kind,
    count,
    kinds_of,
    one_of,
    optional,
    read_fields,
    reads,
    seconds,
)
from aioredis_kit.presets import azure_port
from aioredis_kit.spellings import REDIS_PY, Alias, Ignored, Meaning, Refused, is_unset, meaning_in_pool, read_pool
from aioredis_kit.tls_options import TLS, TLSOptions
from aioredis_kit.url import parse_url

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping

    from tenacity.stop import StopBaseT
    from tenacity.wait import wait_base

    from aioredis_kit.credentials import CredentialSource

__all__ = [
    "CommandOptions",
    "Options",
    "ReconnectStrategy",
    "Resolution",
    "RetryUnanswered",
    "SocketOptions",
    "Statement",
    "StrategyAnswer",
    "TLSOptions",
    "read_text",
    "read_url",
    "resolve_options",
    "resolve_statements",
    "state",
]

RetryUnanswered: TypeAlias = Literal["never", "read_only", "idempotent"]
StrategyAnswer: TypeAlias = float | timedelta | Literal[False] | Exception
"""What a function for ``reconnect_strategy`` returns: how long to wait, or whether and why to give up."""
ReconnectStrategy: TypeAlias = (
    "Literal[False] | float | wait_base | tuple[wait_base, StopBaseT] "
    "| Callable[[int, Exception], StrategyAnswer | Awaitable[StrategyAnswer]]"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandOptions:
    """What one view of the client asks for all its commands.

    Attributes:
        timeout: How long a command may take from the call on, in seconds; ``None`` is without limit.
        decode_responses: Whether replies are decoded to text.
        retry_unanswered: Which commands are sent again if the connection is lost before their reply.
    """

    timeout: float | None
    decode_responses: bool
    retry_unanswered: RetryUnanswered


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketOptions:
    """How TCP sockets are set up.

    Attributes:
        keep_alive: Seconds of silence before the first probe, seconds between probes, and how many of them may
            stay unanswered; ``None`` is without probes.
        tcp_user_timeout: How long sent data may stay unacknowledged, in seconds; ``None`` leaves it to the system.
        no_delay: Whether small writes are sent at once.
    """

    keep_alive: tuple[float, float, int] | None
    tcp_user_timeout: float | None
    no_delay: bool


def _read_cache(given: object) -> object:
    if given is None or given is False:
        return None
    if not isinstance(given, CacheOptions | ClientSideCache):
        raise TypeError
    return given


_CACHE: Final = Kind("CacheOptions, a ClientSideCache or None", _read_cache)


def _read_hooks(given: Any) -> tuple[CommandHook, ...]:
    hooks = () if given is None else (given,) if isinstance(given, CommandHook) else tuple(given)
    if not all(isinstance(each, CommandHook) for each in hooks):
        raise TypeError
    return hooks


_HOOKS: Final = Kind("CommandHook objects, one or a list of them", _read_hooks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """All options of a client. Each field's metadata has its ``kind`` and ``meaning``.

    Made by ``resolve_options`` and ``replaced``, which know the other names.

    Raises:
        ConfigurationError: A value is of another type or out of range, or two exclude each other.
    """

    host: str = field(default="localhost", metadata=reads(HOST, "Name or IP address of the server."))
    port: int = field(default=6379, metadata=reads(count(1, 65535), "TCP port of the server."))
    unix_socket_path: str | None = field(
        default=None, metadata=reads(optional(SOCKET_PATH), "Path of its Unix socket, instead.")
    )
    db: int = field(default=0, metadata=reads(count(0, 2**31 - 1), "Number of the database."))
    username: str | None = field(
        default=None, metadata=reads(optional(TEXT), "ACL user; None is the server's default user.")
    )
    password: str | None = field(default=None, repr=False, metadata=reads(optional(SECRET), "What proves the user."))
    credential_provider: CredentialSource | None = field(
        default=None,
        repr=False,
        metadata=reads(
            optional(PROVIDER), "Asked for user name and password: before every handshake, or before they end."
        ),
    )
    client_name: str | None = field(
        default=None, metadata=reads(optional(LABEL), "Name of the connections, see CLIENT LIST.")
    )
    client_info_tag: str | None = field(
        default=None, metadata=reads(optional(LABEL), "Added to the library's name in CLIENT LIST.")
    )
    disable_client_info: bool = field(
        default=False, metadata=reads(FLAG, "Whether the library's name isn't told to the server.")
    )
    decode_responses: bool = field(default=False, metadata=reads(FLAG, "Whether replies are decoded to text."))
    encoding: str = field(default="utf-8", metadata=reads(ENCODING, "How text is encoded and decoded."))
    encoding_errors: str = field(
        default="strict", metadata=reads(ENCODING_ERRORS, "What to do with bytes that are not such text.")
    )
    legacy_responses: bool = field(
        default=True, metadata=reads(FLAG, "Whether responses have the shapes of redis-py before 8.")
    )
    protocol: Literal[2, 3] | None = field(
        default=None,
        metadata=reads(optional(one_of(2, 3)), "Protocol version; None is 3 with servers that know it, else 2."),
    )
    tls: bool | TLSOptions | ssl.SSLContext = field(default=False, metadata=reads(TLS, "Whether and how to encrypt."))
    connections: int = field(default=1, metadata=reads(count(1), "Shared connections per address."))
    max_dedicated_connections: int = field(
        default=50, metadata=reads(count(1), "How many dedicated connections there may be.")
    )
    command_timeout: float | None = field(
        default=5.0,
        metadata=reads(optional(seconds()), "How long a command may take, from the call to the reply; None: no limit."),
    )
    connect_timeout: float = field(default=3.0, metadata=reads(seconds(), "How long one attempt to connect may take."))
    initial_connect_timeout: float | None = field(
        default=10.0,
        metadata=reads(optional(seconds()), "How long connect() may take; None: as long as the strategy goes on."),
    )
    close_timeout: float = field(default=5.0, metadata=reads(seconds(), "How long close() waits for replies."))
    reconnect_strategy: ReconnectStrategy | None = field(
        default=None, metadata=reads(STRATEGY, "How long to wait before connecting again; None: the default strategy.")
    )
    ping_interval: float | None = field(
        default=30.0, metadata=reads(INTERVAL, "Silence after which the server is asked for life.")
    )
    ping_timeout: float = field(default=5.0, metadata=reads(seconds(), "How long it may take to show any."))
    disable_offline_queue: bool = field(
        default=False, metadata=reads(FLAG, "Whether commands fail while not connected.")
    )
    commands_queue_max_length: int = field(
        default=100_000, metadata=reads(count(1), "Commands that may wait and be in flight.")
    )
    commands_queue_max_bytes: int = field(default=64 * 2**20, metadata=reads(count(1), "Their size, in bytes."))
    queue_full: Literal["wait", "raise"] = field(
        default="wait", metadata=reads(one_of("wait", "raise"), "What a command does when that is reached.")
    )
    max_reply_bytes: int | None = field(
        default=2**30, metadata=reads(optional(count(1)), "How large a reply may be, in bytes; None: no limit.")
    )
    retry_unanswered: RetryUnanswered = field(
        default="read_only",
        metadata=reads(
            one_of("never", "read_only", "idempotent"), "What is sent again if the connection is lost before the reply."
        ),
    )
    keep_alive: tuple[float, float, int] | None = field(
        default=(30.0, 5.0, 3),
        metadata=reads(KEEP_ALIVE, "TCP keepalive: seconds before the first probe, between probes, and probes."),
    )
    tcp_user_timeout: float | None = field(
        default=30.0,
        metadata=reads(optional(seconds(least=0.001, most=2_000_000)), "How long sent data may stay unacknowledged."),
    )
    no_delay: bool = field(default=True, metadata=reads(FLAG, "Whether small writes are sent at once (TCP_NODELAY)."))
    single_connection_client: bool = field(
        default=False, metadata=reads(FLAG, "Whether all commands have one dedicated connection, as a session's.")
    )
    client_side_cache: CacheOptions | ClientSideCache | None = field(
        default=None, metadata=reads(_CACHE, "What replies are kept, until the server says that a key changed.")
    )
    emit_invalidate: bool = field(
        default=False, metadata=reads(FLAG, "Whether changes of keys are told by the event invalidate.")
    )
    hooks: tuple[CommandHook, ...] = field(
        default=(), metadata=reads(_HOOKS, "Who is told of each command, before it is sent and when it has ended.")
    )
    ignored: tuple[str, ...] = ()
    """The names of options that were given, were accepted, and have no effect."""
    preset: tuple[str, ...] = ()
    """What was assumed because of the host's name: names of options."""

    def __post_init__(self) -> None:
        read_fields(self)
        for problem in _impossibilities(self):
            raise ConfigurationError(problem)

    @property
    def command(self) -> CommandOptions:
        """What commands are issued with."""
        return CommandOptions(
            timeout=self.command_timeout,
            decode_responses=self.decode_responses,
            retry_unanswered=self.retry_unanswered,
        )

    @property
    def tracking(self) -> tuple[str | bytes, ...] | None:
        """What follows ``CLIENT TRACKING ON`` on shared connections, if anybody wants to know of changes of keys."""
        match self.client_side_cache:
            case None:
                return () if self.emit_invalidate else None
            case CacheOptions() as options:
                return options.tracking
            case cache:
                return cache.options.tracking

    @property
    def socket(self) -> SocketOptions:
        """How sockets are set up."""
        return SocketOptions(keep_alive=self.keep_alive, tcp_user_timeout=self.tcp_user_timeout, no_delay=self.no_delay)

    @property
    def credentials(self) -> Credentials | None:
        """The static credentials, if there are any."""
        if not self.username and not self.password:
            return None
        return Credentials(self.username or None, self.password or "")

    def replaced(self, overrides: Mapping[str, object]) -> Options:
        """Return these options with some replaced, under any of their names.

        A Unix socket takes the place of host and port, and they of it; the same holds for a credential
        provider and static credentials.

        Raises:
            ConfigurationError: As ``resolve_options`` does.
        """
        settled, ignored, preset = _settle([state(*each) for each in overrides.items()], tls=self.tls)
        changes: dict[str, Any] = {name: value for name, (_, value) in settled.items()}
        changes["preset"] = preset
        if not changes.keys().isdisjoint({"host", "port"}):
            changes.setdefault("unix_socket_path", None)
        if not changes.keys().isdisjoint({"username", "password"}):
            changes.setdefault("credential_provider", None)
        elif changes.get("credential_provider") is not None:
            changes |= {"username": None, "password": None}
        return replace(self, **changes, ignored=_names(ignored))


def _impossibilities(options: Options) -> Iterator[str]:
    if options.credential_provider is not None and (options.username or options.password):
        yield "credential_provider excludes username and password: give either"
    if options.unix_socket_path is not None and options.tls:
        yield "tls can't be had on a Unix socket, as no server speaks it there: leave out tls or unix_socket_path"
    if options.emit_invalidate and options.client_side_cache is not None:
        yield "emit_invalidate is needless with client_side_cache, which does its work: leave it out"
    for name in ("client_side_cache", "emit_invalidate"):
        if getattr(options, name):
            if options.protocol == 2:
                yield f"{name} needs RESP3, but protocol is 2: leave out protocol or set it to 3"
            if options.single_connection_client:
                yield f"{name} can't be had with single_connection_client, whose connection is its own: leave out one"


_OPTIONS: Final = kinds_of(Options)
_KINDS: Final = _OPTIONS | {f"tls.{name}": kind for name, kind in kinds_of(TLSOptions).items()}


@dataclass(frozen=True, slots=True)
class Statement:
    """What somebody said of one option, under whichever name, and where.

    Attributes:
        name: The name that was used.
        value: The value that was given.
        meaning: What becomes of it.
        source: Where it was said, as completes the sentence "port in …"; empty for an argument.
        is_implied: Whether it only follows from something else: TLS from the scheme of a URL, or a port from TLS.
    """

    name: str
    value: object = field(repr=False)  # of any option, a password too
    meaning: Meaning = field(repr=False)
    source: str = ""
    is_implied: bool = False

    def __str__(self) -> str:
        return f"{self.name} in {self.source}" if self.source else self.name


@dataclass(frozen=True, slots=True)
class Resolution:
    """What was made of statements.

    Attributes:
        options: The options.
        sources: By its name, where each option was said that was said at all; empty for an argument.
        ignored: What was accepted without effect.
    """

    options: Options
    sources: Mapping[str, str]
    ignored: tuple[Statement, ...]


_URL: Final = "the URL"
_POOL: Final = "the connection_pool"
_HOSTS_NAME: Final = "the host's name"
_Settled: TypeAlias = dict[str, tuple[Statement, Any]]


def resolve_options(url: str | None, given: Mapping[str, object]) -> Options:
    """Make options of what the caller gave.

    Args:
        url: The URL of the server, if there is one.
        given: Options by any of their names.

    Raises:
        ConfigurationError: The URL is malformed; an option is unknown, of another type or out of range; two names
            of one option, or it and the URL or the pool, have different values; or options exclude each other.
    """
    said = [] if url is None else read_url(url)
    for name, value in given.items():
        if name == "connection_pool" and value is not None:
            said += _from_pool(value)
        elif not is_unset(value):
            said.append(state(name, value))
    return resolve_statements(said).options


def resolve_statements(said: Iterable[Statement]) -> Resolution:
    """Make options of what was said, wherever it was.

    Raises:
        ConfigurationError: A value is of another type or out of range, two statements contradict each other, or
            options exclude each other.
    """
    settled, ignored, preset = _settle(said, tls=False)
    values = {name: value for name, (_, value) in settled.items()}
    return Resolution(
        Options(**values, ignored=_names(ignored), preset=preset),
        {name: each.source for name, (each, _) in settled.items()},
        ignored,
    )


def state(name: str, value: object, source: str = "") -> Statement:
    """Return the statement that an option, by any of its names, has a value.

    Raises:
        ConfigurationError: There is no such option.
    """
    return Statement(name, value, _meaning(name, source), source)


def read_url(url: str, source: str = _URL) -> list[Statement]:
    """Return what a URL says.

    Raises:
        ConfigurationError: It is malformed, or names an unknown option.
    """
    return [
        replace(read_text(state(name, value, source)), is_implied=name == "tls" and isinstance(value, bool))
        for name, value in _parsed_url(url, source).items()
    ]


def _parsed_url(url: str, source: str) -> dict[str, object]:
    try:
        return parse_url(url)
    except ConfigurationError as error:
        if source == _URL:
            raise
        problem = str(error).removeprefix("url")
    raise ConfigurationError(f"{source}{problem}")


def read_text(said: Statement) -> Statement:
    """Return a statement with the value that its text stands for, if its value is text that has to be read.

    Raises:
        ConfigurationError: It stands for none, or the option can't be said as text.
    """
    if not isinstance(said.value, str) or (kind := _kind(said.meaning)) is None:
        return said
    return replace(said, value=kind.parsed(str(said), said.value))


def _from_pool(pool: Any) -> list[Statement]:
    own = getattr(pool, "options", None)
    if isinstance(own, Options):  # it is a client's of ours
        values = {each: getattr(own, each.name) for each in fields(own) if "kind" in each.metadata}
        said = {each.name: value for each, value in values.items() if value != each.default}
    else:
        said = read_pool(pool)
    statements = [state(name, value, _POOL) for name, value in said.items()]
    # A pool made of a URL has text for what redis-py doesn't know there.
    return [read_text(each) if _is_readable(each) else each for each in statements]


def _is_readable(said: Statement) -> bool:
    kind = _kind(said.meaning)
    return kind is not None and kind.parse is not None


def _meaning(name: str, source: str) -> Meaning:
    if name in _OPTIONS:
        return Alias(name)
    if name in REDIS_PY:
        return REDIS_PY[name]
    if source == _POOL and (meaning := meaning_in_pool(name)) is not None:
        return meaning
    place = f" in {source}" if source not in {"", _URL} else ""  # of a URL any piece may be part of a password
    hint = counterpart(name)
    if hint is None:
        (closest,) = difflib.get_close_matches(name[:50].lower(), [*_OPTIONS, *REDIS_PY], n=1, cutoff=0)
        hint = f"the closest one is {closest!r}"
    raise ConfigurationError(f"there is no option {name[:50]!r}{place}: {hint}")


def _kind(meaning: Meaning) -> Kind | None:
    if isinstance(meaning, Alias):
        return meaning.kind or _KINDS[meaning.option]
    return meaning.kind if isinstance(meaning, Ignored) else None


def _names(said: Iterable[Statement]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(each.name for each in said))


def _settle(said: Iterable[Statement], *, tls: object) -> tuple[_Settled, tuple[Statement, ...], tuple[str, ...]]:
    """Return what holds for the options that were given, what has no effect, and what the host's name told."""
    settled: _Settled = {}
    ignored: list[Statement] = []
    for each in said:
        if isinstance(each.meaning, Alias):
            if each.value not in each.meaning.unset:
                _add(settled, each.meaning, each)
        elif not _says_nothing(each):
            if not isinstance(each.meaning, Ignored):
                raise ConfigurationError(f"{each} {_refusal(each.meaning)}")
            ignored.append(each)
    preset = _preset(settled)
    _fold_tls(settled, tls)
    if "unix_socket_path" in settled and settled["unix_socket_path"][1] is not None:
        for name in settled.keys() & {"host", "port"}:
            raise ConfigurationError(f"unix_socket_path excludes {settled[name][0]}: give either")
    return settled, tuple(ignored), preset


def _says_nothing(said: Statement) -> bool:
    """Whether what would be ignored or refused asks for nothing but what is so anyway."""
    unset = said.meaning.unset if isinstance(said.meaning, Ignored | Refused) else (None, False)
    # By identity: what has no effect may be of any type, and compare in any way.
    return any(said.value is each for each in unset) or (isinstance(said.value, str) and said.value in unset)


def _preset(settled: _Settled) -> tuple[str, ...]:
    """Assume what the host's name tells, unless something else was said; return the options of which that is so.

    That a URL begins with ``redis://`` says nothing.
    """
    port = azure_port(settled["host"][1]) if "host" in settled else None
    if port is None:
        return ()
    if "tls" in settled and settled["tls"][1] is False and settled["tls"][0].is_implied:
        del settled["tls"]
    assumed = {name: value for name, value in (("port", port), ("tls", True)) if name not in settled}
    settled |= {name: (state(name, value, _HOSTS_NAME), value) for name, value in assumed.items()}
    return tuple(assumed)


def _refusal(meaning: Meaning) -> str:
    return meaning.reason if isinstance(meaning, Refused) else "must be given when the client is made"


def _add(settled: _Settled, alias: Alias, said: Statement) -> None:
    value = (alias.kind or _KINDS[alias.option]).value(str(said), said.value)
    if alias.option in settled:
        first, known = settled[alias.option]
        # A plain True says less than another way to say yes, so the two agree: tls=True and TLSOptions.
        if value == known or (said.value is True and known):
            if not said.source:  # what is said beside a URL counts as said, which may matter
                settled[alias.option] = said, known
            return
        if not (first.value is True and value):
            hint = " (rediss:// is tls=True, redis:// is tls=False)" if alias.option == "tls" else ""
            raise ConfigurationError(f"{first} and {said} contradict each other: keep one of them{hint}")
    settled[alias.option] = said, value


def _fold_tls(settled: _Settled, tls: object) -> None:
    """Make one ``TLSOptions`` of redis-py's ``ssl_*``."""
    parts = {name: settled.pop(name) for name in list(settled) if name.startswith("tls.")}
    if not parts:
        return
    first, _ = next(iter(parts.values()))
    switch, tls = settled.get("tls", (first, tls))
    if tls is True:
        values = {name.removeprefix("tls."): value for name, (_, value) in parts.items()}
        sources = dict.fromkeys(each.source for each in (switch, *(said for said, _ in parts.values())))
        settled["tls"] = replace(switch, source=" and ".join(filter(None, sources))), TLSOptions(**values)
    elif tls is not False:
        raise ConfigurationError(f"{first} must be said in the TLSOptions or SSLContext that tls has: move it there")
    elif switch is first or switch.is_implied:
        raise ConfigurationError(
            f"{first} has no effect without TLS: add tls=True (ssl=true in text), or use rediss:// in the URL"
        )
