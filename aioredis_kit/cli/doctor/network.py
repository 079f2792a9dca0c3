"""Look at the way to a server, one step after the other: the name, the sockets, TLS. No command is sent but a PING."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, cast

from aioredis_kit.cli.doctor.facts import Certificate, Dial, DialFailure, Encryption, LookUp
from aioredis_kit.exceptions import ConnectError
from aioredis_kit.options import TLSOptions
from aioredis_kit.policy.tls_failures import TLSFailure, find_failure, tls_error_behind
from aioredis_kit.transport.dial import Address
from aioredis_kit.transport.tcp import round_trip
from aioredis_kit.transport.tls import TLSContext

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from aioredis_kit.transport.dial import Dialler

MOST_ADDRESSES: Final = 8
"""How many of a name's addresses are dialled."""
_GLANCE: Final = 1.0
"""How long a second look may take that only says more about what has failed, in seconds."""
_FAILURES: Final = {
    TimeoutError: DialFailure.LATE,
    ConnectionRefusedError: DialFailure.REFUSED,
    FileNotFoundError: DialFailure.MISSING,
    PermissionError: DialFailure.FORBIDDEN,
}
_ABOUT_CERTIFICATE: Final = frozenset(
    {
        TLSFailure.OTHER_NAME,
        TLSFailure.UNKNOWN_AUTHORITY,
        TLSFailure.EXPIRED,
        TLSFailure.NOT_YET_VALID,
        TLSFailure.UNVERIFIED,
    }
)
_PING: Final = b"*1\r\n$4\r\nPING\r\n"


async def look_up(dialler: Dialler, *, timeout: float) -> LookUp:
    """Resolve the host's name as the client does.

    Cancellation:
        Safe. The look-up goes on in its thread.
    """
    begin = time.perf_counter()
    found: LookUp
    try:
        async with asyncio.timeout(timeout):
            addresses = dict.fromkeys(str(where[0]) for *_, where in await dialler.look_up())
        host = dialler.address.host.strip("[]")
        found = LookUp(addresses=tuple(addresses), is_needless=tuple(addresses) == (host,))
    except TimeoutError:
        found = LookUp(error="no answer", is_late=True)
    except OSError as error:
        found = LookUp(error=_words(error))
    return replace(found, seconds=time.perf_counter() - begin)


async def dial_each(dialler: Dialler, addresses: Iterable[str], *, timeout: float) -> tuple[Dial, ...]:
    """Open a socket to each address, to all at once, and close it again.

    Args:
        dialler: The client's own.
        addresses: Those that its host has.
        timeout: How long it may take, in seconds.

    Cancellation:
        Safe.
    """
    port = dialler.address.port
    if dialler.address.path is not None:
        places = [dialler.address]
    else:
        places = [Address(host=each, port=port) for each in addresses][:MOST_ADDRESSES]
    plain = [replace(dialler, address=place, tls=None) for place in places]
    return tuple(await asyncio.gather(*(_dial(each, timeout) for each in plain)))


async def _dial(dialler: Dialler, timeout: float) -> Dial:
    address = str(dialler.address)
    begin = time.perf_counter()
    try:
        async with asyncio.timeout(timeout):
            transport, _ = await dialler.dial(asyncio.Protocol, timeout=timeout)
    except OSError as error:
        seconds = time.perf_counter() - begin
        failure = _FAILURES.get(type(error))
        return Dial(address=address, seconds=seconds, error=_words(error), failure=failure)
    seconds = time.perf_counter() - begin
    measured = round_trip(transport.get_extra_info("socket"))
    transport.abort()
    return Dial(address=address, seconds=seconds, round_trip=measured)


async def encrypt(dialler: Dialler, *, timeout: float) -> Encryption:
    """Do the TLS handshake as the client does it.

    Cancellation:
        Safe.
    """
    begin = time.perf_counter()
    seen = Encryption(name=dialler.certified_name)
    try:
        async with asyncio.timeout(timeout):
            transport, _ = await dialler.dial(asyncio.Protocol, timeout=timeout)
    except (OSError, ConnectError) as error:
        cause = tls_error_behind(error)
        return replace(
            seen,
            seconds=time.perf_counter() - begin,
            error=_words(error).removeprefix(f"{dialler.address}: "),
            failure=None if cause is None else find_failure(cause),
            is_late=isinstance(error, TimeoutError),
        )
    secured = transport.get_extra_info("ssl_object")
    certificates = _certificates(secured)
    transport.abort()
    return replace(
        seen,
        seconds=time.perf_counter() - begin,
        version=secured.version() or "",
        cipher=(secured.cipher() or ("",))[0],
        certificates=certificates,
    )


async def look_closer(dialler: Dialler, seen: Encryption) -> Encryption:
    """After TLS has failed, find out what there is instead. Nothing is told to the server that is not for everybody.

    Cancellation:
        Safe.
    """
    if seen.failure in _ABOUT_CERTIFICATE:
        return replace(seen, certificates=await _unverified(dialler))
    return replace(seen, is_plain=await _speaks_plainly(dialler))


async def speaks_tls(dialler: Dialler) -> bool:
    """Tell whether what answers speaks TLS. A socket is opened for that, and nothing else is said on it.

    Cancellation:
        Safe.
    """
    with suppress(ssl.SSLCertVerificationError):
        return await _look_behind(dialler, TLSOptions(verify=False)) is not None
    return True


async def _unverified(dialler: Dialler) -> tuple[Certificate, ...]:
    """Return the certificates that a server shows, of which nothing is believed, and to which nothing is told."""
    options = dialler.tls.options if dialler.tls is not None else None
    if not isinstance(options, TLSOptions):
        return ()
    lenient = replace(options, verify=False, certificate_file=None, key_file=None, key_password=None)
    return await _look_behind(dialler, lenient) or ()


async def _look_behind(dialler: Dialler, options: TLSOptions) -> tuple[Certificate, ...] | None:
    lenient = replace(dialler, tls=TLSContext(options))
    with suppress(OSError, ConnectError):
        async with asyncio.timeout(_GLANCE):
            transport, _ = await lenient.dial(asyncio.Protocol, timeout=_GLANCE)
            certificates = _certificates(transport.get_extra_info("ssl_object"))
            transport.abort()
            return certificates
    return None


class _FirstWords(asyncio.Protocol):
    """Asks for life without TLS."""

    def __init__(self) -> None:
        self.heard: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).write(_PING)

    def data_received(self, data: bytes) -> None:
        if not self.heard.done():
            self.heard.set_result(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # whichever way
        if not self.heard.done():
            self.heard.set_result(b"")


async def _speaks_plainly(dialler: Dialler) -> bool:
    """Tell whether what answers speaks Redis without TLS."""
    with suppress(OSError):
        async with asyncio.timeout(_GLANCE):
            transport, protocol = await replace(dialler, tls=None).dial(_FirstWords, timeout=_GLANCE)
            try:
                return (await protocol.heard)[:1] in (b"+", b"-")
            finally:
                transport.abort()
    return False


def _certificates(secured: Any) -> tuple[Certificate, ...]:
    """Return what a server has shown.

    Python's own interface has the whole chain only as bytes, and only since 3.13; what lies behind it has it read.
    """
    show = getattr(getattr(secured, "_sslobj", None), "get_unverified_chain", None)
    if show is not None:
        return tuple(_certificate(each.get_info()) for each in show() or ())
    own = secured.getpeercert()
    return (_certificate(own),) if own else ()


def _certificate(read: Mapping[str, Any]) -> Certificate:
    return Certificate(
        subject=_distinguished(read.get("subject", ())),
        issuer=_distinguished(read.get("issuer", ())),
        names=tuple(str(value) for _, value in read.get("subjectAltName", ())),
        begins=float(ssl.cert_time_to_seconds(read["notBefore"])),
        ends=float(ssl.cert_time_to_seconds(read["notAfter"])),
    )


def _distinguished(name: Iterable[Iterable[tuple[str, str]]]) -> str:
    """Return the telling part of a name: the common name, or who has none."""
    parts = {kind: value for group in name for kind, value in group}
    others = filter(None, (parts.get("organizationName"), parts.get("organizationalUnitName")))
    return parts.get("commonName") or ", ".join(others) or "nobody"


def _words(error: BaseException) -> str:
    """Return what an error says, without its number, asyncio's words for it, and the names of OpenSSL's files."""
    if isinstance(error, TimeoutError) and not error.errno:
        return "no answer"
    if isinstance(error, OSError) and error.errno and not isinstance(error, ssl.SSLError | socket.gaierror):
        return os.strerror(error.errno)
    said = (getattr(error, "strerror", None) or str(error) or type(error).__name__).partition(" (_ssl")[0]
    return said.partition("] ")[2] or said if said.startswith("[") else said
