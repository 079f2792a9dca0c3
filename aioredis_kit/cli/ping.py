"""``aioredis-kit ping``: whether a server answers, who it is, and how long it takes."""

from __future__ import annotations

import asyncio
import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

import click

from aioredis_kit.cli.output import ExitCode, reporting, run
from aioredis_kit.cli.server import Server, ask_server
from aioredis_kit.cli.target import probing, read_target, seconds, target_argument, timeout_option

if TYPE_CHECKING:
    from aioredis_kit.cli.output import Output
    from aioredis_kit.cli.target import Target
    from aioredis_kit.health import Health

__all__ = ["ping"]

_MOST: Final = 100_000
_PATIENCE: Final = 5.0
"""How long an answer is waited for, in seconds, if neither the user nor the configuration limits that."""


@dataclass(slots=True)
class Pings:
    """What has come of pings so far.

    Attributes:
        target: Who was asked.
        server: What it says of itself; ``None``: it was not connected yet.
        answers: What was seen with each ping: without a latency it was not answered.
        is_interrupted: Whether Ctrl-C ended it.
    """

    target: Target
    server: Server | None = None
    answers: list[Health] = field(default_factory=list)
    is_interrupted: bool = False

    @property
    def latencies(self) -> list[float]:
        """How long those took that were answered, in seconds."""
        return [each.latency for each in self.answers if each.latency is not None]

    @property
    def exit_code(self) -> ExitCode:
        """What it comes to."""
        if self.is_interrupted:
            return ExitCode.INTERRUPTED
        return ExitCode.WELL if len(self.latencies) == len(self.answers) else ExitCode.WRONG

    def as_document(self) -> dict[str, Any]:
        """Return it as it stands in JSON. Times are in seconds."""
        latencies = self.latencies
        return {
            "target": self.target.as_dict(),
            "server": None if self.server is None else self.server.as_dict(),
            "sent": len(self.answers),
            "answered": len(latencies),
            "latency": {
                "min": min(latencies, default=None),
                "median": statistics.median(latencies) if latencies else None,
                "max": max(latencies, default=None),
            },
            "pings": [
                {"latency": each.latency, "reasons": [reason.text for reason in each.reasons]} for each in self.answers
            ],
            "is_interrupted": self.is_interrupted,
        }


@click.command(short_help="Whether a server answers, who it is, and how fast.")
@target_argument
@click.option("--count", type=click.IntRange(1, _MOST), default=1, show_default=True, help="How many pings to send.")
@click.option(
    "--interval",
    type=seconds(0, 3600),
    metavar="SECONDS",
    default=1.0,
    show_default=True,
    help="How long to wait between two of them.",
)
@timeout_option
@reporting
def ping(output: Output, target: str | None, *, count: int, interval: float, timeout: float | None) -> ExitCode:
    """Connect to TARGET and ping it: is it there, who is it, how fast does it answer?

    If the connection is lost meanwhile, it is connected again, as an application's would be.
    """
    patience = _FirstAttempt()
    pings = Pings(read_target(target, **probing(timeout), reconnect_strategy=patience))
    try:
        run(_ping(output, pings, patience, count=count, interval=interval))
    except KeyboardInterrupt:
        pings.is_interrupted = True
    if not output.as_json and (count > 1 or pings.is_interrupted):
        output.say(_summary(pings), "bold")
    output.document(pings.as_document())
    return pings.exit_code


class _FirstAttempt:
    """A reconnect strategy: the first connection must succeed at once; one that is lost is tried again, for ever."""

    def __init__(self) -> None:
        self.has_succeeded = False

    def __call__(self, retries: int, _cause: Exception) -> float | Literal[False]:
        return min(2**retries * 0.05, 1.0) if self.has_succeeded else False


async def _ping(output: Output, pings: Pings, patience: _FirstAttempt, *, count: int, interval: float) -> None:
    timeout = pings.target.options.command_timeout or _PATIENCE
    async with pings.target.configuration.create_client() as client:
        patience.has_succeeded = True
        pings.server = await ask_server(client)
        output.say(_headline(pings.target, pings.server), "bold")
        for number in range(1, count + 1):
            if number > 1:
                await asyncio.sleep(interval)
            seen = await client.health(timeout=timeout)
            pings.answers.append(seen)
            _tell(output, seen, number if count > 1 else None)


def _headline(target: Target, server: Server) -> str:
    parts = [f"{server} at {target.address}", f"database {target.options.db}"]
    if server.protocol is not None:
        parts.append(f"RESP{server.protocol}")
    if target.options.tls:
        parts.append("TLS")
    return ", ".join(parts) + (f" (from {target.sources[0]})" if target.is_from_environment else "")


def _tell(output: Output, seen: Health, number: int | None) -> None:
    answer = "no answer" if seen.latency is None else f"answered in {milliseconds(seen.latency)}"
    text = answer if number is None else f"{number:4}  {answer}"
    output.say("; ".join([text, *(reason.text for reason in seen.reasons)]), "" if seen.is_ready else "red", hang=6)


def _summary(pings: Pings) -> str:
    if pings.server is None:
        return "interrupted before it was connected"
    latencies = pings.latencies
    told = f"{len(latencies)} of {len(pings.answers)} answered"
    if pings.is_interrupted:
        told = f"interrupted: {told}"
    if not latencies:
        return told
    values = (min(latencies), statistics.median(latencies), max(latencies))
    return f"{told}: " + ", ".join(
        f"{name} {milliseconds(value)}" for name, value in zip(("min", "median", "max"), values, strict=True)
    )


def milliseconds(duration: float) -> str:
    """Return seconds as people read them."""
    return f"{duration * 1000:.3g} ms" if duration < 1 else f"{duration * 1000:.0f} ms"
