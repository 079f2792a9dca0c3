"""Say in plain words why TLS failed: which check, for which name, and what mends it.

OpenSSL tells it by numbers and by names that its versions share. A remedy is never to switch a check off.
"""

from __future__ import annotations

import enum
import ssl
from typing import TYPE_CHECKING, Final

from aioredis_kit.options import TLSOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    _Options = TLSOptions | ssl.SSLContext

__all__ = ["TLSFailure", "explain", "explain_reset", "find_failure", "is_about_name", "tls_error_behind"]


class TLSFailure(enum.Enum):
    """What failed."""

    OTHER_NAME = enum.auto()
    """The server's certificate is for another name."""
    UNKNOWN_AUTHORITY = enum.auto()
    """Nobody who is trusted has signed it."""
    EXPIRED = enum.auto()
    NOT_YET_VALID = enum.auto()
    UNVERIFIED = enum.auto()
    """Another check of the server's certificate."""
    CERTIFICATE_MISSING = enum.auto()
    """The server demands a client certificate, and got none."""
    CERTIFICATE_REFUSED = enum.auto()
    """The server does not accept the client certificate."""
    VERSION = enum.auto()
    """There is no TLS version that both sides accept."""
    UNSAID = enum.auto()
    """The server ended the handshake, and TLS has one word for several reasons."""
    NOT_TLS = enum.auto()
    """What answers does not speak TLS."""


_BY_CODE: Final = {  # X509_V_ERR_…
    2: TLSFailure.UNKNOWN_AUTHORITY,
    9: TLSFailure.NOT_YET_VALID,
    10: TLSFailure.EXPIRED,
    18: TLSFailure.UNKNOWN_AUTHORITY,
    19: TLSFailure.UNKNOWN_AUTHORITY,
    20: TLSFailure.UNKNOWN_AUTHORITY,
    21: TLSFailure.UNKNOWN_AUTHORITY,
    62: TLSFailure.OTHER_NAME,
    64: TLSFailure.OTHER_NAME,
}
_REFUSALS: Final = {
    "BAD_CERTIFICATE": "it is damaged, or its signature is wrong",
    "UNSUPPORTED_CERTIFICATE": "it is of a kind that the server does not support",
    "CERTIFICATE_REVOKED": "it was revoked",
    "CERTIFICATE_EXPIRED": "it has expired",
    "CERTIFICATE_UNKNOWN": "the server does not say why",
    "UNKNOWN_CA": "the server does not trust the authority that signed it",
    "ACCESS_DENIED": "the server lets nobody in with it",
}
_BY_REASON: Final = {
    "CERTIFICATE_REQUIRED": TLSFailure.CERTIFICATE_MISSING,
    "HANDSHAKE_FAILURE": TLSFailure.UNSAID,
    "PROTOCOL_VERSION": TLSFailure.VERSION,
    "UNSUPPORTED_PROTOCOL": TLSFailure.VERSION,
    "WRONG_VERSION_NUMBER": TLSFailure.NOT_TLS,
    **dict.fromkeys(_REFUSALS, TLSFailure.CERTIFICATE_REFUSED),
}
_MOST_NAMES: Final = 5
"""How many of a certificate's names are told."""


def tls_error_behind(error: BaseException | None) -> ssl.SSLError | None:
    """Return the TLS error among the causes of an error, if there is one."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, ssl.SSLError):
            return error
        seen.add(id(error))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return None


def find_failure(error: ssl.SSLError) -> TLSFailure | None:
    """Return what failed, as far as the error tells."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _BY_CODE.get(getattr(error, "verify_code", 0), TLSFailure.UNVERIFIED)
    return _BY_REASON.get(_reason(error))


def is_about_name(error: ssl.SSLError) -> bool:
    """Return whether the server's certificate is trusted, but not for the name that was asked for."""
    return find_failure(error) is TLSFailure.OTHER_NAME


def explain(error: ssl.SSLError, options: _Options, name: str, names: Sequence[str] = ()) -> str | None:
    """Return what failed, for which name, and what mends it; ``None`` if the error does not tell.

    Args:
        error: How the handshake ended.
        options: What the client's side of it was made of.
        name: The name that the server's certificate must bear.
        names: Those that it bears, as far as they are known.
    """
    failure = find_failure(error)
    if failure is None:
        return None
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate does not verify for {name}: {_about_theirs(error, failure, options, names)}"
    match failure:
        case TLSFailure.CERTIFICATE_MISSING:
            remedy = _place(options, "certificate_file", "key_file")
            return f"the server demands a client certificate, and none was given; give one in {remedy}"
        case TLSFailure.CERTIFICATE_REFUSED:
            return _about_ours(_REFUSALS[_reason(error)], options)
        case TLSFailure.VERSION:
            return _about_versions(options)
        case TLSFailure.UNSAID:
            ciphers = f"it supports no cipher of this client's ({_place(options, 'ciphers')})"
            return f"the TLS handshake was refused: {_suspicion(options)}, or {ciphers}"
        case _:
            return "what answers does not speak TLS; it may be the server's port without TLS: name the one with it"


def explain_reset(options: _Options) -> str:
    """Return what may be behind a connection that is reset right after the TLS handshake.

    With TLS 1.3 the client is done before the server has looked at its certificate, and what the server says about it
    is lost where it hangs up while the client is writing.
    """
    return f"right after a TLS handshake that may be because {_suspicion(options)}"


def _about_theirs(
    error: ssl.SSLCertVerificationError, failure: TLSFailure, options: _Options, names: Sequence[str]
) -> str:
    said = getattr(error, "verify_message", None) or str(error)
    match failure:
        case TLSFailure.OTHER_NAME:
            remedy = "connect to it by its name"
            if isinstance(options, TLSOptions):
                remedy += f", or give that in {_place(options, 'server_hostname')}"
            return f"it is for {_listed(names)}; if this is the right server, {remedy}"
        case TLSFailure.UNKNOWN_AUTHORITY:
            return (
                f"no authority that is trusted signed it ({said}); trusted are {_trusted(options)}: "
                f"name another's certificate in {_place(options, 'ca_file')}"
            )
        case TLSFailure.EXPIRED:
            return (
                "it has expired, or that of an authority which signed it; it has to be renewed at the server, "
                f"that of an authority also in {_place(options, 'ca_file')}"
            )
        case TLSFailure.NOT_YET_VALID:
            return "it is not valid yet; compare the clocks of this machine and of the one that issued it"
        case _:
            return f"{said}; it has to be replaced at the server"


def _about_ours(reason: str, options: _Options) -> str:
    file = f" {options.certificate_file}" if isinstance(options, TLSOptions) and options.certificate_file else ""
    remedy = _place(options, "certificate_file", "key_file")
    return f"the server refused the client certificate{file}: {reason}; give one that it accepts in {remedy}"


def _about_versions(options: _Options) -> str:
    oldest = options.minimum_version
    if isinstance(oldest, ssl.TLSVersion):
        oldest = oldest.name.replace("_", ".")
    mended = "enable one of those at the server"
    if isinstance(options, TLSOptions) and oldest != "TLSv1.2":
        mended += ', or accept an older one that is still safe: tls=TLSOptions(minimum_version="TLSv1.2")'
    asked = f"{oldest} or newer ({_place(options, 'minimum_version')})"
    return f"the server speaks no TLS version that this client accepts, which is {asked}; {mended}"


def _suspicion(options: _Options) -> str:
    place = _place(options, "certificate_file", "key_file")
    if not isinstance(options, TLSOptions):
        return f"the server demands a client certificate, and none that it accepts was given ({place})"
    if options.certificate_file is None:
        return f"the server demands a client certificate, and none was given ({place})"
    return f"the server does not accept the client certificate {options.certificate_file} ({place})"


def _place(options: _Options, *names: str) -> str:
    """Return where options are set."""
    if isinstance(options, TLSOptions):
        return f"tls=TLSOptions({', '.join(f'{name}=…' for name in names)})"
    return f"the SSLContext given as tls ({', '.join(names)})"


def _trusted(options: _Options) -> str:
    if not isinstance(options, TLSOptions):
        return "those of the SSLContext"
    given = {"ca_file": options.ca_file, "ca_path": options.ca_path, "ca_data": options.ca_data and "…"}
    return " and ".join(f"those in {name}={value}" for name, value in given.items() if value) or "the system's"


def _listed(names: Sequence[str]) -> str:
    if not names:
        return "another name"
    more = [f"{len(names) - _MOST_NAMES} more"] if len(names) > _MOST_NAMES else []
    return " and ".join(filter(None, (", ".join(names[:_MOST_NAMES]), *more)))


def _reason(error: ssl.SSLError) -> str:
    """Return OpenSSL's word for it. Which version of TLS it puts before an alert says when that was introduced."""
    reason: str = getattr(error, "reason", None) or ""  # only what OpenSSL itself raised has one
    return reason.partition("_ALERT_")[2] or reason
