"""What the facts mean: verdicts with reasons and advice. Pure: facts in, findings out.

The rules are in ``connecting``, ``serving`` and ``using``. A step that was reached has at least one finding.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

__all__ = ["Finding", "Severity", "Step", "Verdict"]


class Severity(enum.IntEnum):
    """How bad something is."""

    WELL = 0
    NOTE = 1
    """Worth knowing, and no trouble."""
    WARNING = 2
    """It works, and may stop to, or is worse than it could be."""
    ERROR = 3
    """Commands fail because of it."""


class Step(enum.Enum):
    """What is looked at, in this order."""

    NAME = "name"
    SOCKET = "socket"
    TLS = "tls"
    HANDSHAKE = "handshake"
    SERVER = "server"
    RIGHTS = "rights"
    LATENCY = "latency"
    FEATURES = "features"
    OPTIONS = "options"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was found.

    Attributes:
        severity: How bad it is.
        code: What it is, in one word with underscores, for programs.
        what: The same for people, in one line.
        why: How it is known, and what it leads to.
        advice: What to do about it.
    """

    severity: Severity
    code: str
    what: str
    why: str = ""
    advice: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What was found in one step.

    Attributes:
        step: Which.
        findings: First what is well, then the worst; empty: it was not reached.
    """

    step: Step
    findings: tuple[Finding, ...] = ()

    @property
    def is_reached(self) -> bool:
        """Whether anything was looked at."""
        return bool(self.findings)

    @property
    def severity(self) -> Severity:
        """That of its worst finding."""
        return max((each.severity for each in self.findings), default=Severity.WELL)
