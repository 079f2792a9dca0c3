"""Rules about the way to the server: its name, the sockets, TLS, and the handshake."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from aioredis_kit.cli.doctor.facts import DialFailure
from aioredis_kit.cli.doctor.findings import Finding, Severity
from aioredis_kit.cli.doctor.wording import day, duration, listed, minute
from aioredis_kit.exceptions import AuthenticationFailedError, HandshakeError, ReplyProtocolError
from aioredis_kit.options import TLSOptions
from aioredis_kit.policy.tls_failures import TLSFailure, find_failure, tls_error_behind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aioredis_kit.cli.doctor.facts import Certificate, Dial, Encryption, Facts, Greeting
    from aioredis_kit.exceptions import KitError

_SLOW_NAME: Final = 0.5
"""A look-up that takes so many seconds is felt at every reconnect."""
_ENDS_SOON: Final = 14 * 86_400.0
"""Who renews certificates by a program has them renewed some 30 days before their end."""


def _error(code: str, what: str, why: str, advice: str) -> Finding:
    return Finding(severity=Severity.ERROR, code=code, what=what, why=why, advice=advice)


def about_name(facts: Facts) -> Iterator[Finding]:
    """Judge the name's resolution."""
    found, host = facts.look_up, facts.options.host
    if found is None:
        return
    if found.is_late:
        yield Finding(
            severity=Severity.ERROR,
            code="name_resolution_late",
            what=f"nobody says within {duration(found.seconds)} what the address of {host} is",
            why="the resolver of this machine got no answer from its name servers",
            advice="look at /etc/resolv.conf (in a container: its DNS settings) and at the way to the name servers",
        )
    elif found.error:
        yield Finding(
            severity=Severity.ERROR,
            code="name_unknown",
            what=f"{host} has no address: {found.error}",
            why="the resolver of this machine does not know the name",
            advice=(
                "check how it is spelt; a name of a private network or a cluster is known there alone, perhaps in a "
                "longer form only"
            ),
        )
    elif found.is_needless:
        yield Finding(severity=Severity.WELL, code="address", what=f"{host} is an address")
    else:
        where = f"{host} is {listed(found.addresses)} ({duration(found.seconds)})"
        if found.seconds < _SLOW_NAME:
            yield Finding(severity=Severity.WELL, code="name_resolved", what=where)
        else:
            yield Finding(
                severity=Severity.WARNING,
                code="name_resolution_slow",
                what=where,
                why="it is looked up for every new connection, within connect_timeout",
                advice="look at the name servers of this machine; a local cache for names helps",
            )


def about_socket(facts: Facts) -> Iterator[Finding]:
    """Judge the sockets."""
    if facts.dials is None:
        return
    opened = [dial for dial in facts.dials if not dial.error]
    failed = [dial for dial in facts.dials if dial.error]
    if opened:
        times = "; ".join(f"{dial.address} in {duration(_connecting(dial))}" for dial in opened)
        yield Finding(severity=Severity.WELL, code="connected", what=times)
    for dial in failed:
        found = _undialled(dial)
        if opened:
            why = f"{found.why}; the client tries the addresses of a name in their order, and this one costs it time"
            found = replace(found, severity=Severity.WARNING, why=why)
        yield found


def _connecting(dial: Dial) -> float:
    return dial.seconds if dial.round_trip is None else dial.round_trip


def _undialled(dial: Dial) -> Finding:
    match dial.failure:
        case DialFailure.REFUSED:
            return _error(
                "socket_refused",
                f"{dial.address} refuses connections",
                "the machine is there, and nothing listens on that port; some firewalls answer so, too",
                "start the server, or correct host and port; the server listens where bind and port of its "
                "configuration say, which by default is its own machine alone",
            )
        case DialFailure.LATE:
            return _error(
                "socket_late",
                f"{dial.address} does not answer within {duration(dial.seconds)}",
                "what is sent there gets lost: a firewall or a security group drops it, the way there is missing (a "
                "VPN, a peering), or the machine is down",
                "ask whoever runs the network to let this machine through to that port; try from another machine",
            )
        case DialFailure.MISSING:
            return _error(
                "socket_missing",
                f"there is no Unix socket {dial.address}",
                "nothing has that path",
                "start the server, or correct the path: unixsocket in the server's configuration",
            )
        case DialFailure.FORBIDDEN:
            return _error(
                "socket_forbidden",
                f"{dial.address} may not be opened",
                "the user of this process has not the right to",
                "add that user to the socket's group: unixsocketperm in the server's configuration",
            )
        case _:
            what = f"{dial.address}: {dial.error}"
            return _error("socket_failed", what, "the system says so", "look at the network of this machine")


def about_tls(facts: Facts) -> Iterator[Finding]:
    """Judge the TLS handshake and the certificate."""
    seen = facts.encryption
    if seen is None:
        return
    if seen.error:
        yield _tls_failure(seen, facts)
        return
    what = f"{seen.version}, {seen.cipher}"
    if not seen.certificates:
        yield Finding(severity=Severity.WELL, code="encrypted", what=what)
    else:
        own = seen.certificates[0]
        ends = f"the certificate ends in {duration(max(own.ends - facts.now, 0))}"
        yield Finding(
            severity=Severity.WELL,
            code="encrypted",
            what=f"{what}; {ends}",
            why=f"{_described(own)}; {_chain(seen)}",
        )
        if own.ends - facts.now < min(_ENDS_SOON, (own.ends - own.begins) / 3):
            yield Finding(
                severity=Severity.WARNING,
                code="certificate_ends_soon",
                what=ends,
                why=f"it ends {minute(own.ends)}; from then on no client that checks it gets in",
                advice="renew it at the server, and find out why nothing has done so yet",
            )
    yield from _unchecked(facts)


def _unchecked(facts: Facts) -> Iterator[Finding]:
    tls = facts.options.tls
    if not isinstance(tls, TLSOptions) or (tls.verify and tls.check_hostname):
        return
    part = "the name in the certificate" if tls.verify else "the certificate"
    option, in_url = ("check_hostname", "ssl_check_hostname") if tls.verify else ("verify", "ssl_cert_reqs")
    yield Finding(
        severity=Severity.WARNING,
        code="certificate_unchecked",
        what=f"{part} is not checked",
        why=f"TLSOptions.{option} is False: whoever is on the way can pose as the server, and gets the password",
        advice=(
            f"name who signs it (TLSOptions(ca_file=…), in a URL ssl_ca_certs=…), and leave out {option} (in a URL "
            f"{in_url})"
        ),
    )


def _tls_failure(seen: Encryption, facts: Facts) -> Finding:
    if seen.is_plain:
        return _error(
            "tls_not_spoken",
            "the server does not speak TLS on this port",
            "it answers a PING that is not encrypted",
            "name the port on which it does (tls-port in its configuration), or switch TLS on at the server; where "
            "none is wanted, redis:// instead of rediss:// is without",
        )
    if seen.is_late:
        return _error(
            "tls_silent",
            f"connections are accepted, and the TLS handshake is not answered within {duration(seen.seconds)}",
            "a connection was opened, and nothing came back: the process behind it is stopped or busy, or it is a "
            "proxy without a server behind it, or no TLS server",
            "see what listens there, and whether it is alive",
        )
    own = seen.certificates[0] if seen.certificates else None
    shown = f"{_described(own)}; {_chain(seen)}" if own is not None else seen.error
    match seen.failure:
        case TLSFailure.EXPIRED:
            return _expired(seen, facts, shown)
        case TLSFailure.NOT_YET_VALID:
            begin = f"it begins {minute(own.begins)}; " if own else ""
            return _error(
                "certificate_not_yet_valid",
                "the certificate is not valid yet",
                f"{begin}here it is {minute(facts.now)}; {shown}",
                "compare the clocks of this machine and of the one that issued it",
            )
        case TLSFailure.OTHER_NAME:
            names = listed(own.names) if own and own.names else "another name"
            return _error(
                "certificate_for_another_name",
                f"the certificate is not for {seen.name}",
                f"it is for {names}; {shown}",
                "connect by a name that it is for; if this is the right server and its name can't be used as host, "
                "give that in TLSOptions(server_hostname=…)",
            )
        case TLSFailure.UNKNOWN_AUTHORITY:
            return _error(
                "certificate_of_unknown_authority",
                "nobody who is trusted has signed the certificate",
                f"{shown}; {_trusted(facts)}",
                "get the certificate of that authority from whoever runs the server, and name its file: "
                "TLSOptions(ca_file=…), in a URL ssl_ca_certs=…",
            )
        case _:
            return _other_tls_failure(seen.failure, seen.error)


def _other_tls_failure(failure: TLSFailure | None, said: str) -> Finding:
    place = "TLSOptions(certificate_file=…, key_file=…), in a URL ssl_certfile=… and ssl_keyfile=…"
    match failure:
        case TLSFailure.CERTIFICATE_MISSING:
            return _error(
                "client_certificate_missing",
                "the server demands a client certificate, and none was given",
                "it said so in the TLS handshake",
                f"have one made by whoever runs the server, and name its files: {place}",
            )
        case TLSFailure.CERTIFICATE_REFUSED:
            what = "the server refuses the client certificate"
            return _error(
                "client_certificate_refused", what, said.partition("; give")[0], f"name one that it accepts: {place}"
            )
        case TLSFailure.VERSION:
            return _error(
                "tls_version",
                "there is no TLS version that both sides accept",
                said,
                "enable TLSv1.2 or newer there",
            )
        case _:
            return _error("tls_failed", "the TLS handshake failed", said, "the reason says what may be missing")


def _expired(seen: Encryption, facts: Facts, shown: str) -> Finding:
    old = next((each for each in seen.certificates if each.ends <= facts.now), None)
    if old is None or old is seen.certificates[0]:
        ended = f"it ended {minute(old.ends)}, {duration(facts.now - old.ends)} ago; " if old else ""
        return _error(
            "certificate_expired",
            "the certificate has expired",
            f"{ended}{shown}",
            "renew it at the server; if it has been, have the server load it (CONFIG SET tls-cert-file, or a restart)",
        )
    return _error(
        "certificate_expired",
        f"the certificate of {old.subject}, which signed the server's, has expired",
        f"it ended {minute(old.ends)}, {duration(facts.now - old.ends)} ago; {shown}",
        "put the newer one of that authority into the server's chain, and into ca_file where it is trusted",
    )


def _described(own: Certificate) -> str:
    names = f" for {listed(own.names)}" if own.names else ""
    return f"certificate of {own.subject}{names}, from {day(own.begins)} to {day(own.ends)}"


def _chain(seen: Encryption) -> str:
    subjects = [each.subject for each in seen.certificates]
    issuer = seen.certificates[-1].issuer
    links = subjects if subjects[-1] == issuer else [*subjects, issuer]
    return "signed by itself" if len(links) == 1 else f"signed by {', signed by '.join(links[1:])}"


def _trusted(facts: Facts) -> str:
    tls = facts.options.tls
    places = [tls.ca_file, tls.ca_path, tls.ca_data and "ca_data"] if isinstance(tls, TLSOptions) else []
    return f"trusted are the authorities in {' and '.join(map(str, filter(None, places))) or 'the list of the system'}"


def about_handshake(facts: Facts) -> Iterator[Finding]:
    """Judge the Redis handshake."""
    seen = facts.greeting
    if seen is None:
        return
    if not seen.is_ready:
        yield _handshake_failure(seen, facts)
        return
    user = facts.rights.user if facts.rights else facts.options.username or "default"
    spoken = f"RESP{seen.protocol}" if seen.protocol else "connected"
    what = f"{spoken} with {_name(facts)} as user {user}, in {duration(seen.seconds)}"
    yield Finding(severity=Severity.WELL, code="handshake", what=what)
    if seen.protocol == 2 and facts.options.protocol is None:
        yield Finding(
            severity=Severity.WARNING,
            code="resp2",
            what="the server does not speak RESP3, so the client speaks RESP2 with it",
            why=(
                "it refused HELLO 3; so there is no client-side cache, and with tokens the connection for "
                "subscriptions is made anew where it would authenticate again"
            ),
            advice="Redis 6 and newer know RESP3; a proxy in between may not let HELLO through",
        )
    if _is_exposed(facts):
        yield Finding(
            severity=Severity.NOTE,
            code="password_unencrypted",
            what="the password crosses the network without encryption",
            why="the server is on another machine, and the connection is without TLS",
            advice="rediss:// if the server has TLS; nothing, if the network is encrypted or nobody else's",
        )


def _is_exposed(facts: Facts) -> bool:
    options = facts.options
    if options.tls or (options.credentials is None and options.credential_provider is None):
        return False
    addresses = facts.look_up.addresses if facts.look_up else ()
    return any(not ipaddress.ip_address(each.partition("%")[0]).is_loopback for each in addresses)


def _name(facts: Facts) -> str:
    server = facts.server
    return f"{server.name} {server.version}".strip() if server and server.name else "the server"


def _handshake_failure(seen: Greeting, facts: Facts) -> Finding:
    error = seen.error
    if seen.is_tls:
        sent = "; what the client has sent, was not encrypted" if facts.options.credentials else ""
        return _error(
            "tls_missing",
            "the server speaks TLS on this port, and the client does not",
            f"it answers a TLS handshake, and nothing else{sent}",
            "rediss:// instead of redis://, or tls=True",
        )
    if seen.not_serving:
        return _not_serving(seen.not_serving)
    if error is None or seen.is_late:
        return _error(
            "silent",
            f"connections are accepted, and nothing is answered within {duration(seen.seconds)}",
            "a connection was opened and the handshake sent, and not a word came back: the server is stopped, or busy "
            "with something slow, or this is a proxy without a server behind it, or no Redis at all",
            "see what listens there, and whether it is alive: its CPU, its log; SLOWLOG tells afterwards what was slow",
        )
    if isinstance(error, AuthenticationFailedError):
        return _unauthenticated(error, facts)
    return _refused(error, facts)


def _not_serving(said: str) -> Finding:
    if "MASTERDOWN" in said:
        return _error(
            "not_serving",
            "this replica does not serve while it has no link to its primary",
            "it answers MASTERDOWN, as replica-serve-stale-data is off",
            "look at the primary, and at the way from this replica to it",
        )
    if "BUSY" in said:
        return _error(
            "not_serving",
            "a script keeps the server from serving",
            "it answers BUSY, as one has been running for too long",
            "SCRIPT KILL or FUNCTION KILL ends one that has not written yet; one that has must be waited for",
        )
    return _error(
        "not_serving",
        "the server is up and loads its data",
        "it answers LOADING: until it is done, every command would get that",
        "wait; INFO persistence tells loading_eta_seconds. A server that loads again and again has restarted again and "
        "again: see its log, and whether the system killed it for want of memory",
    )


def _unauthenticated(error: AuthenticationFailedError, facts: Facts) -> Finding:
    options, said = facts.options, str(error).partition(": ")[2].partition(";")[0].rstrip(".")
    user = options.username or "default"
    if "NOAUTH" in said or (options.credentials is None and options.credential_provider is None):
        return _error(
            "password_missing",
            "the server asks for a password, and none was given",
            said,
            "put it where the rest is configured: PASSWORD beside HOST, or redis://user:password@… in a variable",
        )
    if "without any password" in said or "no password is set" in said:
        return _error(
            "password_needless",
            "the server has no password, and one was given",
            said,
            "leave it out if this is the right server; a server without a password may be another than you think",
        )
    others = (
        "the user may be off, or not exist (ACL LIST)"
        if options.username
        else "without a user name, as here, it is the password of the user default"
    )
    given = _given(facts, "credential_provider" if options.credential_provider is not None else "password")
    return _error(
        "password_refused",
        f"the server refuses the credentials of user {user}",
        f"{said}; {given}",
        "compare them with the server's: after a rotation both must be new; " + others,
    )


def _given(facts: Facts, name: str) -> str:
    source = next((each.source for each in facts.explanation.settings if each.name == name), "")
    return f"the {name.replace('_', ' ')} came from {source or 'nowhere'}"


def _refused(error: KitError, facts: Facts) -> Finding:
    said = str(error).removeprefix(facts.address).lstrip(": ")
    if (alert := tls_error_behind(error)) is not None:
        return _other_tls_failure(find_failure(alert), said)
    if "max number of clients" in said:
        return _error(
            "too_many_clients",
            "the server takes no more clients",
            said,
            "find out who has so many connections (CLIENT LIST), or raise maxclients at the server",
        )
    if "DENIED" in said:
        return _error(
            "protected_mode",
            "the server lets nobody in from another machine",
            "it has no password and is in protected mode",
            "give it a password (an ACL user, or requirepass), and the client the same",
        )
    if isinstance(error, HandshakeError) and error.step == "SELECT":
        return _error(
            "database_refused",
            f"there is no database {facts.options.db} for this user",
            said,
            "databases count from 0 to one less than databases at the server; a cluster has number 0 alone",
        )
    if isinstance(error, ReplyProtocolError) or isinstance(error.__cause__, ReplyProtocolError):
        return _error(
            "not_redis",
            "what answers does not speak the language of Redis",
            said,
            "this may be the port of another service: correct host and port",
        )
    if isinstance(error, HandshakeError):
        return _error("refused", f"the server refuses {error.step}", said, _unsupported(error))
    if re.search(r"closed the connection|reset by peer", said):
        return _error(
            "hung_up",
            "the server accepts connections, and hangs up before it has said a word",
            said,
            "a proxy or a load balancer without a server behind it does so, and a server that demands TLS or a client "
            "certificate, or takes no connection from here",
        )
    return _error("not_connected", "no connection with the server", said, "the reason says what is missing")


def _unsupported(error: HandshakeError) -> str:
    if error.is_unsupported:
        return "leave out the option that needs it, or let a newer server, its ACL or the proxy before it allow it"
    return "give the user that right (ACL SETUSER), or take another user"
