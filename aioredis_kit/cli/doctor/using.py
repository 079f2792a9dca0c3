"""Rules about using the server: the user's rights, latency, features, and the client's options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aioredis_kit.cli.doctor.facts import Permission
from aioredis_kit.cli.doctor.findings import Finding, Severity
from aioredis_kit.cli.doctor.percentiles import percentile
from aioredis_kit.cli.doctor.wants import CHANNEL, KEY, WANTS
from aioredis_kit.cli.doctor.wording import duration, listed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aioredis_kit.cli.doctor.facts import Facts, Latency, Rights

_SPREAD: Final = 10
"""If one in a hundred pings takes so many times as long as half of them …"""
_FELT: Final = 0.01
"""… and so many seconds, something holds the server or the way to it up now and then."""
_FAR: Final = 0.02
"""Half of the pings take more seconds than that: what calls one after the other is slow."""
_LAG: Final = 0.05
"""How late this process may be, in seconds, for its measurements to be believed."""


def about_rights(facts: Facts) -> Iterator[Finding]:
    """Judge what the client's user may do."""
    rights = facts.rights
    if rights is None:
        return
    if rights.is_open and facts.options.credentials is not None:
        yield Finding(
            severity=Severity.WARNING,
            code="any_password",
            what=f"the server takes any password for user {rights.user}",
            why="one is configured here, and there (nopass) none is needed: whoever reaches the server gets in",
            advice=f"set it there too: ACL SETUSER {rights.user} resetpass and the password, or requirepass",
        )
    refused = [want for want in WANTS if rights.permissions.get(want.name) is Permission.REFUSED]
    known = [name for name, each in rights.permissions.items() if each is not Permission.UNKNOWN]
    if known and len(refused) == len(known):
        yield Finding(
            severity=Severity.ERROR,
            code="no_rights",
            what=f"user {rights.user} may use none of the commands that the client wants",
            why=f"asked about were {listed(tuple(known), 20)}; they are answered with NOPERM",
            advice=f"give it what it needs, such as: ACL SETUSER {rights.user} ~* &* +@all -@dangerous",
        )
        return
    yield from _granted(rights)
    for want in refused:
        is_needed = want.is_wanted_by(facts.options)
        severity = Severity.ERROR if is_needed else Severity.WARNING if want.is_serious else Severity.NOTE
        yield Finding(
            severity=severity,
            code=f"no_right_{want.name.lower().replace(' ', '_')}",
            what=f"user {rights.user} may not use {want.name}",
            why=f"without it {want.loss}" + (f"; {want.option} is set" if is_needed else ""),
            advice=f"ACL SETUSER {rights.user} +{want.name.lower().replace(' ', '|')}, where that is wanted",
        )


def _granted(rights: Rights) -> Iterator[Finding]:
    may = tuple(name for name, each in rights.permissions.items() if each in _POSSIBLE)
    unknown = tuple(name for name, each in rights.permissions.items() if each is Permission.UNKNOWN)
    elsewhere = tuple(name for name, each in rights.permissions.items() if each is Permission.ELSEWHERE)
    patterns = f" ({rights.patterns})" if rights.patterns else ""
    wanted = "all that the client wants" if len(may) == len(rights.permissions) else listed(may, 20) or "little"
    what = f"user {rights.user} may use {wanted}{patterns}"
    details = []
    if elsewhere:
        details.append(
            f"not with the key {KEY} or the channel {CHANNEL}, but perhaps with yours: {listed(elsewhere, 20)}"
        )
    if unknown:
        how = "" if rights.is_dry else ", as ACL DRYRUN can't be asked here, and trying would do it"
        details.append(f"not known of {listed(unknown, 20)}{how}")
    yield Finding(severity=Severity.WELL, code="rights", what=what, why="; ".join(details))


_POSSIBLE: Final = (Permission.GRANTED, Permission.ELSEWHERE)


def about_latency(facts: Facts) -> Iterator[Finding]:
    """Judge how long pings took."""
    seen = facts.latency
    if seen is None:
        return
    if not seen.samples:
        yield Finding(
            severity=Severity.ERROR,
            code="pings_unanswered",
            what="the server stopped answering",
            why=seen.error or "not one ping was answered",
            advice="run this again; if it stays so, look at the server's CPU and log",
        )
        return
    half, most = percentile(seen.samples, 50), percentile(seen.samples, 99)
    what = (
        f"{len(seen.samples)} pings: half within {duration(half)}, 90 % {duration(percentile(seen.samples, 90))}, "
        f"99 % {duration(most)}, slowest {duration(max(seen.samples))}"
    )
    findings = list(_latency_troubles(seen, half, most, facts))
    yield Finding(severity=Severity.WELL, code="latency", what=what, why=_parts(half, facts))
    yield from findings


def _parts(half: float, facts: Facts) -> str:
    """Say whose time it is, where the system has measured the network's part."""
    trips = [dial.round_trip for dial in facts.dials or () if dial.round_trip is not None]
    if not trips:
        return ""
    told = f"the way there and back took {duration(min(trips))} when it connected, as this system measured"
    return f"{told}; the rest are the server and this process" if min(trips) < half else told


def _latency_troubles(seen: Latency, half: float, most: float, facts: Facts) -> Iterator[Finding]:
    limit = facts.options.command_timeout
    if seen.lag > _LAG:
        yield Finding(
            severity=Severity.NOTE,
            code="this_process_late",
            what=f"this process itself was late by up to {duration(seen.lag)}",
            why="the machine is busy: what was measured is too much by that",
            advice="run this again when it is not, or elsewhere",
        )
    if seen.error:
        yield Finding(
            severity=Severity.WARNING,
            code="pings_answered_with_errors",
            what="pings are answered with an error",
            why=seen.error,
            advice="BUSY: a script runs for too long; SCRIPT KILL or FUNCTION KILL ends one that has not written",
        )
    if limit is not None and most > limit / 5:
        yield Finding(
            severity=Severity.WARNING,
            code="latency_near_timeout",
            what="pings take a large part of what commands are allowed to",
            why=f"command_timeout is {limit:g} s, and of pings one in a hundred took {duration(most)}",
            advice="look for slow commands (SLOWLOG GET) and load at the server; or raise command_timeout",
        )
    elif most > _FELT and most > half * _SPREAD:
        yield Finding(
            severity=Severity.WARNING,
            code="latency_spikes",
            what=f"now and then a ping takes {most / half:.0f} times as long as others",
            why="something holds the server up, or packets are lost and sent again",
            advice="SLOWLOG GET and LATENCY DOCTOR at the server; look at its neighbours and its disk (forks, AOF)",
        )
    elif half > _FAR:
        yield Finding(
            severity=Severity.NOTE,
            code="far_away",
            what="the server is far away, or slow",
            why=f"a call takes {duration(half)}, so one after the other there are {1 / half:.0f} a second",
            advice="issue commands together (asyncio.gather, pipelines): they share the way; or move the two closer",
        )


def about_features(facts: Facts) -> Iterator[Finding]:
    """Judge what else the server has."""
    seen = facts.features
    if seen is None:
        return
    if seen.is_tracking:
        yield Finding(
            severity=Severity.WELL, code="tracking", what="a client-side cache works: CLIENT TRACKING is on offer"
        )
    else:
        yield Finding(
            severity=Severity.ERROR if facts.options.tracking is not None else Severity.NOTE,
            code="no_tracking",
            what="a client-side cache does not work here",
            why=seen.tracking_error,
            advice="nothing to do unless you want one: it needs RESP3 and the right to CLIENT TRACKING",
        )
    if seen.announces_maintenance:
        yield Finding(
            severity=Severity.NOTE,
            code="maintenance_announced",
            what="the server announces maintenance (CLIENT MAINT_NOTIFICATIONS)",
            why="this client does not ask for it: when the server moves, it reconnects as after any other loss",
            advice="reads are repeated by themselves; have writes that may be repeated say so (retry_unanswered)",
        )


def about_options(facts: Facts) -> Iterator[Finding]:
    """Say what was set and has no effect."""
    yield Finding(severity=Severity.WELL, code="options", what="those that are set (aioredis-kit parse --all has all):")
    for note in facts.explanation.notes:
        yield Finding(severity=Severity.NOTE, code="option_note", what=note)
