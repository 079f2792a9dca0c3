"""What was found, as text and as JSON."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final, TypeVar

from rich.text import Text

from aioredis_kit.cli.doctor.diagnosis import worst
from aioredis_kit.cli.doctor.findings import Severity, Step
from aioredis_kit.cli.doctor.percentiles import histogram, percentile
from aioredis_kit.cli.output import wrapped
from aioredis_kit.cli.parse import as_document as options_as_document

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aioredis_kit.cli.doctor.facts import Dial, Encryption, Facts, Latency, Rights, Server
    from aioredis_kit.cli.doctor.findings import Finding, Verdict
    from aioredis_kit.cli.output import Output
    from aioredis_kit.cli.target import Target

__all__ = ["as_document", "tell"]

T = TypeVar("T")

_MARKS: Final = {
    Severity.WELL: ("ok", "green"),
    Severity.NOTE: ("note", "cyan"),
    Severity.WARNING: ("WARN", "bold yellow"),
    Severity.ERROR: ("ERROR", "bold red"),
}
"""How a finding begins: the words tell all, the colours help to find them."""
_MARGIN: Final = 18
"""Columns before the text of a finding: its mark, and its step."""
_BAR: Final = 30
"""Columns of the longest bar."""
_PERCENTILES: Final = (50, 90, 99)


def tell(output: Output, target: Target, facts: Facts, verdicts: Sequence[Verdict]) -> None:
    """Print it. The last line is the one to read."""
    if output.as_json:
        return
    output.say(_headline(target, facts), "bold")
    output.say()
    missing = [verdict.step.value for verdict in verdicts if not verdict.is_reached]
    for verdict in verdicts:
        if verdict.step is Step.OPTIONS and missing:
            _tell_line(output, ("-", "dim"), "", f"not reached: {', '.join(missing)}", "dim")
        _tell_step(output, verdict, facts)
    output.say()
    _tell_verdict(output, facts, verdicts)


def _headline(target: Target, facts: Facts) -> str:
    parts = [facts.address, f"database {facts.options.db}", f"user {facts.options.username or 'default'}"]
    if facts.options.tls:
        parts.append("TLS")
    return ", ".join(parts) + (f" (from {target.sources[0]})" if target.is_from_environment else "")


def _tell_step(output: Output, verdict: Verdict, facts: Facts) -> None:
    for place, finding in enumerate(verdict.findings):
        _tell_line(output, _MARKS[finding.severity], "" if place else verdict.step.value, finding.what)
        if finding.severity is Severity.WELL:
            _tell_details(output, verdict.step, finding, facts)
        else:
            _tell_reason(output, finding)


def _tell_details(output: Output, step: Step, finding: Finding, facts: Facts) -> None:
    if finding.why:
        output.say(finding.why, "dim", indent=_MARGIN, hang=0)
    if step is Step.LATENCY and facts.latency is not None:
        _tell_histogram(output, facts.latency)
    if step is Step.OPTIONS:
        said = [(each.name, each.value, f"from {each.source}") for each in facts.explanation.settings if each.source]
        output.columns(said, ("cyan", "", "dim"), indent=_MARGIN + 2)


def _tell_line(output: Output, mark: tuple[str, str], step: str, text: str, style: str = "") -> None:
    word, colour = mark
    body = wrapped(text, output.width - _MARGIN, hang=0).replace("\n", "\n" + " " * _MARGIN)
    line = Text.assemble((f"{word:7}", colour), (f"{step:{_MARGIN - 7}}", "bold"), (body, style))
    output.console.print(line, soft_wrap=True)


def _tell_reason(output: Output, finding: Finding) -> None:
    if finding.why:
        output.say(f"why: {finding.why}", indent=_MARGIN + 2, hang=5)
    if finding.advice:
        output.say(f"do:  {finding.advice}", indent=_MARGIN + 2, hang=5)


def _tell_histogram(output: Output, latency: Latency) -> None:
    bars = histogram(latency.samples)
    most = max((bar.count for bar in bars), default=0)
    for bar in bars:
        length = max(round(bar.count / most * _BAR), 1) if bar.count else 0
        edges = f"{_milliseconds(bar.least):>5} - {_milliseconds(bar.most):>5} ms"
        output.say(f"{edges}  {'#' * length} {bar.count}", "dim", indent=_MARGIN + 2)


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.3g}"


def _tell_verdict(output: Output, facts: Facts, verdicts: Sequence[Verdict]) -> None:
    found = [finding for verdict in verdicts for finding in verdict.findings]
    counts = Counter(finding.severity for finding in found)
    severity = worst(verdicts)
    told = [
        f"{counts[each]} {each.name.lower()}{'' if counts[each] == 1 else 's'}"
        for each in (Severity.ERROR, Severity.WARNING, Severity.NOTE)
        if counts[each]
    ]
    summary = ", ".join(told) or "all is well"
    if severity >= Severity.WARNING:
        first = next(finding for finding in found if finding.severity is severity)
        summary += f": {first.what}"
    elif told:
        summary = f"all is well, with {summary}"
    output.say(f"{summary} ({facts.seconds:.1f} s)", _MARKS[severity][1])


def as_document(target: Target, facts: Facts, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Return it as it stands in JSON. Times are in seconds, and instants in seconds since the epoch."""
    options = options_as_document(target)
    return {
        "target": options["target"],
        "verdict": worst(verdicts).name.lower(),
        "seconds": facts.seconds,
        "steps": [_step(verdict) for verdict in verdicts],
        "measured": _measured(facts),
        "options": options["options"],
        "notes": options["notes"],
        "is_interrupted": facts.is_interrupted,
    }


def _step(verdict: Verdict) -> dict[str, Any]:
    return {
        "step": verdict.step.value,
        "verdict": verdict.severity.name.lower() if verdict.is_reached else "not_reached",
        "findings": [
            {
                "severity": each.severity.name.lower(),
                "code": each.code,
                "what": each.what,
                "why": each.why or None,
                "advice": each.advice or None,
            }
            for each in verdict.findings
        ],
    }


def _measured(facts: Facts) -> dict[str, Any]:
    """Return the facts behind the findings; ``None``: it was not reached, or there is none."""
    greeting = facts.greeting if facts.greeting is not None and facts.greeting.is_ready else None
    return {
        "addresses": _unless_missing(facts.look_up, lambda seen: list(seen.addresses)),
        "name_resolution": _unless_missing(facts.look_up, lambda seen: seen.seconds),
        "sockets": _unless_missing(facts.dials, lambda dials: [_socket(each) for each in dials]),
        "tls": _unless_missing(facts.encryption, _tls),
        "handshake": _unless_missing(
            greeting, lambda seen: {"seconds": seen.seconds, "protocol": seen.protocol or None}
        ),
        "server": _unless_missing(facts.server, _server),
        "rights": _unless_missing(facts.rights, _rights),
        "latency": _unless_missing(facts.latency, _latency),
    }


def _unless_missing(seen: T | None, tell: Callable[[T], Any]) -> Any:
    return None if seen is None else tell(seen)


def _socket(dial: Dial) -> dict[str, Any]:
    return {
        "address": dial.address,
        "seconds": dial.seconds,
        "round_trip": dial.round_trip,
        "error": dial.error or None,
    }


def _tls(seen: Encryption) -> dict[str, Any]:
    return {
        "version": seen.version or None,
        "cipher": seen.cipher or None,
        "name": seen.name,
        "certificates": [asdict(each) for each in seen.certificates],
    }


def _server(server: Server) -> dict[str, Any]:
    words = {name: getattr(server, name) or None for name in ("name", "version", "mode", "role")}
    return words | {"clock_ahead": server.clock_ahead}


def _rights(rights: Rights) -> dict[str, Any]:
    return {"user": rights.user, "permissions": {name: each.value for name, each in rights.permissions.items()}}


def _latency(latency: Latency) -> dict[str, Any]:
    samples = latency.samples
    return {
        "pings": len(samples),
        "min": min(samples, default=None),
        **{f"p{percent}": percentile(samples, percent) if samples else None for percent in _PERCENTILES},
        "max": max(samples, default=None),
        "histogram": [{"from": each.least, "to": each.most, "count": each.count} for each in histogram(samples)],
    }
