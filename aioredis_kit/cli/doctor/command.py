"""The command ``doctor``."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING

import click

from aioredis_kit.cli.doctor.diagnosis import diagnose, worst
from aioredis_kit.cli.doctor.examine import Examination
from aioredis_kit.cli.doctor.findings import Severity
from aioredis_kit.cli.doctor.report import as_document, tell
from aioredis_kit.cli.output import ExitCode, reporting, run
from aioredis_kit.cli.target import read_target, seconds, target_argument

if TYPE_CHECKING:
    from aioredis_kit.cli.output import Output

__all__ = ["doctor"]


@click.command
@target_argument
@click.option(
    "--timeout",
    type=seconds(0.1, 3600),
    metavar="SECONDS",
    default=10.0,
    show_default=True,
    help="How long all of it may take.",
)
@reporting
def doctor(output: Output, target: str | None, *, timeout: float) -> ExitCode:
    """Examine TARGET and the way to it, step by step: is it Redis, the network, or us?

    The name, the sockets, TLS and the certificate, the handshake, the server's state and settings, the user's rights,
    latency, and the client's options. Nothing is written, and no check is left out.
    """
    read = read_target(target)
    examination = Examination(read.configuration, timeout=timeout)
    with (
        suppress(KeyboardInterrupt),  # what was seen is told
        output.console.status(f"looking at {read.address}") if output.is_live else nullcontext(),
    ):
        run(examination.run())
    facts = examination.facts
    verdicts = diagnose(facts)
    tell(output, read, facts, verdicts)
    output.document(as_document(read, facts, verdicts))
    if facts.is_interrupted:
        return ExitCode.INTERRUPTED
    return ExitCode.WRONG if worst(verdicts) is Severity.ERROR else ExitCode.WELL
