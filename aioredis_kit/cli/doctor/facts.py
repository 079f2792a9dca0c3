"""What ``doctor`` has seen of a server and of the way to it: plain values, without a judgement and without a secret.

``None`` where nobody has looked, because an earlier step failed or the time was over.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from aioredis_kit.config.explanation import Explanation
    from aioredis_kit.exceptions import KitError
    from aioredis_kit.options import Options
    from aioredis_kit.policy.tls_failures import TLSFailure

Settings: TypeAlias = Mapping[str, str]
"""What a server says of itself: its own names and values, as text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LookUp:
    """What came of looking the host's name up.

    Attributes:
        addresses: Its addresses, in the order in which they are tried.
        seconds: How long it took.
        error: Why there are none; empty if there are some.
        is_late: Whether it was given up because it took too long.
        is_needless: Whether the host is an address already.
    """

    addresses: tuple[str, ...] = ()
    seconds: float = 0.0
    error: str = ""
    is_late: bool = False
    is_needless: bool = False


class DialFailure(enum.Enum):
    """Why a socket could not be opened."""

    REFUSED = "refused"
    LATE = "late"
    """Nothing came back in time."""
    MISSING = "missing"
    """There is no such Unix socket."""
    FORBIDDEN = "forbidden"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dial:
    """What came of opening a socket to one address.

    Attributes:
        address: ``address:port``, or the path of a Unix socket.
        seconds: How long it took.
        round_trip: The same as the system measured it, in seconds, which no event loop delays; ``None``: it does not
            tell.
        error: Why it failed, in the system's words; empty if it did not.
        failure: The same, if it is one that is known.
    """

    address: str
    seconds: float
    round_trip: float | None = None
    error: str = ""
    failure: DialFailure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """One of the certificates that a server shows.

    Attributes:
        subject: Whose it is.
        issuer: Who signed it.
        names: The hosts that it is for.
        begins: From when on it is valid, in seconds since the epoch.
        ends: Until when.
    """

    subject: str
    issuer: str
    names: tuple[str, ...] = ()
    begins: float = 0.0
    ends: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Encryption:
    """What came of the TLS handshake.

    Attributes:
        name: The name that the certificate must bear.
        seconds: How long it took, the socket included.
        version: The version of TLS; empty if it failed.
        cipher: The cipher; empty if it failed.
        certificates: What the server showed, its own first, trusted or not.
        error: Why it failed; empty if it did not.
        failure: What failed, as far as that is known.
        is_late: Whether it was given up because nothing came.
        is_plain: Whether what answers speaks Redis without TLS.
    """

    name: str
    seconds: float = 0.0
    version: str = ""
    cipher: str = ""
    certificates: tuple[Certificate, ...] = ()
    error: str = ""
    failure: TLSFailure | None = None
    is_late: bool = False
    is_plain: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Greeting:
    """What came of connecting with a client as its options say.

    Attributes:
        seconds: How long it took until it was ready, or was given up.
        is_ready: Whether it was ready.
        protocol: The protocol agreed on: 2 or 3; 0: nobody knows.
        error: Why it failed.
        not_serving: What the server says if it does not serve yet.
        is_late: Whether it was given up because it took too long.
        is_tls: Whether what answers speaks TLS, and this client does not.
    """

    seconds: float
    is_ready: bool = False
    protocol: int = 0
    error: KitError | None = None
    not_serving: str = ""
    is_late: bool = False
    is_tls: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """What the server says of itself, as far as this user may ask.

    Attributes:
        name: What it is, such as ``Valkey``; empty: it does not say.
        version: Its version.
        mode: ``standalone``, ``cluster`` or ``sentinel``; empty: it does not say.
        role: ``master`` or ``replica``; empty: it does not say.
        info: What ``INFO`` says.
        config: What ``CONFIG GET`` says of the settings that matter here.
        cluster: What ``CLUSTER INFO`` says, of a cluster's node.
        refused: What it did not want to answer, and its reason.
        late: Why it did not answer in time, if it did not.
        clock_ahead: By how many seconds its clock is ahead of this machine's.
    """

    name: str = ""
    version: str = ""
    mode: str = ""
    role: str = ""
    info: Settings = field(default_factory=dict)
    config: Settings = field(default_factory=dict)
    cluster: Settings = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    late: str = ""
    clock_ahead: float | None = None


class Permission(enum.Enum):
    """Whether a user may use a command."""

    GRANTED = "granted"
    ELSEWHERE = "elsewhere"
    """It may, but not with the key or the channel that was asked about."""
    REFUSED = "refused"
    UNKNOWN = "unknown"
    """Nobody could ask without doing it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rights:
    """What the client's user may do.

    Attributes:
        user: Who it is to the server; empty: it does not say.
        permissions: Of each command that the client wants.
        patterns: The keys and channels that it may use, as ``ACL GETUSER`` has them; empty: it may not ask.
        is_open: Whether the server lets this user in with any password.
        is_dry: Whether the server was asked, with ``ACL DRYRUN``; else what does no harm was tried.
    """

    user: str
    permissions: Mapping[str, Permission]
    patterns: str = ""
    is_open: bool = False
    is_dry: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """What else the server has that a client can use.

    Attributes:
        is_tracking: Whether a second client with ``emit_invalidate`` connected, which is what a cache needs.
        tracking_error: Why not.
        announces_maintenance: Whether it knows ``CLIENT MAINT_NOTIFICATIONS``; ``None``: nobody could ask.
    """

    is_tracking: bool = False
    tracking_error: str = ""
    announces_maintenance: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """How long pings took, one after the other.

    Attributes:
        samples: Each of them, in seconds, in the order in which they were sent.
        lag: How late the event loop of this process was meanwhile, altogether, in seconds.
        error: What one ended with, if that was an error; a missing right is none: it is an answer like others.
    """

    samples: tuple[float, ...] = ()
    lag: float = 0.0
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All of it.

    Attributes:
        options: What the client was to be.
        explanation: The same as it may be shown, and where it came from.
        address: Where the server is to be.
        now: When it was looked at, in seconds since the epoch.
        timeout: How long all of it was allowed to take, in seconds.
        seconds: How long it took.
        is_interrupted: Whether somebody ended it.
        look_up: The name's resolution; never with a Unix socket.
        dials: The sockets, one for each address.
        encryption: TLS; never without.
        greeting: The Redis handshake.
        server: The server.
        rights: The user's rights.
        features: Other features.
        latency: The pings.
    """

    options: Options
    explanation: Explanation
    address: str
    now: float
    timeout: float
    seconds: float = 0.0
    is_interrupted: bool = False
    look_up: LookUp | None = None
    dials: tuple[Dial, ...] | None = None
    encryption: Encryption | None = None
    greeting: Greeting | None = None
    server: Server | None = None
    rights: Rights | None = None
    features: Features | None = None
    latency: Latency | None = None
