"""All rules, step by step: facts in, verdicts out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aioredis_kit.cli.doctor.connecting import about_handshake, about_name, about_socket, about_tls
from aioredis_kit.cli.doctor.findings import Finding, Severity, Step, Verdict
from aioredis_kit.cli.doctor.serving import about_server
from aioredis_kit.cli.doctor.using import about_features, about_latency, about_options, about_rights
from aioredis_kit.cli.doctor.wording import duration

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aioredis_kit.cli.doctor.facts import Facts

__all__ = ["diagnose", "worst"]

_RULES: Final = {
    Step.NAME: about_name,
    Step.SOCKET: about_socket,
    Step.TLS: about_tls,
    Step.HANDSHAKE: about_handshake,
    Step.SERVER: about_server,
    Step.RIGHTS: about_rights,
    Step.LATENCY: about_latency,
    Step.FEATURES: about_features,
    Step.OPTIONS: about_options,
}


def diagnose(facts: Facts) -> tuple[Verdict, ...]:
    """Return a verdict for each step that there is: a Unix socket has no name, and without TLS there is none."""
    left_out = set()
    if facts.options.unix_socket_path is not None:
        left_out.add(Step.NAME)
    if not facts.options.tls:
        left_out.add(Step.TLS)
    verdicts = [
        Verdict(step=step, findings=tuple(sorted(rule(facts), key=_order)))
        for step, rule in _RULES.items()
        if step not in left_out
    ]
    unreached = next((place for place, each in enumerate(verdicts) if not each.is_reached), None)
    if unreached is not None and worst(verdicts) is not Severity.ERROR:
        verdicts[unreached] = Verdict(step=verdicts[unreached].step, findings=(_time_over(facts),))
    return tuple(verdicts)


def _order(finding: Finding) -> int:
    """What is well says what the rest is about."""
    return -1 if finding.severity is Severity.WELL else Severity.ERROR - finding.severity


def worst(verdicts: Iterable[Verdict]) -> Severity:
    """Return how bad it is altogether."""
    return max(each.severity for each in verdicts)


def _time_over(facts: Facts) -> Finding:
    if facts.is_interrupted:
        return Finding(severity=Severity.ERROR, code="interrupted", what=f"interrupted after {duration(facts.seconds)}")
    return Finding(
        severity=Severity.ERROR,
        code="time_over",
        what=f"not done within {facts.timeout:g} s",
        why="what came before took all the time that there was",
        advice="give it more time (--timeout), and see which step is slow",
    )
