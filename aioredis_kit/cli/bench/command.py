"""The command: what is asked for is checked, then measured, then told."""

from __future__ import annotations

from contextlib import AsyncExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING

import click
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from aioredis_kit.cli.bench.clients import check_comparable, redis_py
from aioredis_kit.cli.bench.figures import COMMANDS, OURS, REDIS_PY, plan_of
from aioredis_kit.cli.bench.report import Results, tell
from aioredis_kit.cli.bench.rounds import Keys, alternate, stored
from aioredis_kit.cli.output import ExitCode, reporting, run
from aioredis_kit.cli.server import ask_server
from aioredis_kit.cli.target import probing, read_target, seconds, target_argument, timeout_option
from aioredis_kit.exceptions import ConfigurationError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator

    from aioredis_kit.cli.bench.clients import Measured
    from aioredis_kit.cli.bench.figures import Round
    from aioredis_kit.cli.output import Output

__all__ = ["bench"]


@click.command(short_help="How much a client gets out of a server.")
@target_argument
@click.option(
    "--callers", type=click.IntRange(1, 10_000), default=100, show_default=True, help="How many issue commands at once."
)
@click.option(
    "--seconds",
    "duration",
    type=seconds(0.1, 300),
    metavar="SECONDS",
    default=3.0,
    show_default=True,
    help="How long each client is measured.",
)
@click.option(
    "--size", type=click.IntRange(0, 2**24), default=64, show_default=True, help="The size of values, in bytes."
)
@click.option(
    "--command",
    type=click.Choice(COMMANDS),
    default="get",
    show_default=True,
    help="What they issue; mixed is nine GETs to a SET.",
)
@click.option(
    "--beside", type=click.Choice([REDIS_PY]), default=REDIS_PY, show_default=True, help="Whom to compare with."
)
@click.option("--alone", "is_alone", is_flag=True, help="Compare with nobody.")
@click.option("--uvloop", "uses_uvloop", is_flag=True, help="Run on uvloop's event loop.")
@timeout_option
@reporting
def bench(  # noqa: PLR0913  # each is an option of the command
    output: Output,
    target: str | None,
    *,
    callers: int,
    duration: float,
    size: int,
    command: str,
    beside: str,
    is_alone: bool,
    uses_uvloop: bool,
    timeout: float | None,
) -> ExitCode:
    """Measure how many commands a second TARGET answers this machine, and how fast.

    The clients take turns on one connection to the server (redis-py: one for each of up to 100 callers), in short
    rounds, so that all have the same weather. Each caller has a key of its own under "aioredis-kit:bench:"; in the end
    they are deleted, and they expire by themselves. It keeps the server busy: think twice before a production server.
    """
    del beside  # there is one to choose from
    plan = plan_of(command=command, callers=callers, size=size, seconds=duration, is_alone=is_alone)
    read = read_target(target, **probing(timeout), reconnect_strategy=False)
    if not is_alone:
        check_comparable(read.options)
    results = Results(read, plan, "uvloop" if uses_uvloop else "asyncio")
    loop_factory = _uvloop() if uses_uvloop else None
    with _progress(output, results) as done:
        try:
            run(_bench(results, done), loop_factory=loop_factory)
        except KeyboardInterrupt:
            results.is_interrupted = True
    if results.is_interrupted and not results.is_complete:
        raise KeyboardInterrupt
    if not output.as_json:
        tell(output, results)
    output.document(results.as_document())
    return ExitCode.INTERRUPTED if results.is_interrupted else ExitCode.WELL


async def _bench(results: Results, done: Callable[[str, Round | None], None]) -> None:
    target, plan = results.target, results.plan
    keys = Keys.of(plan)
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(target.configuration.create_client())
        results.server = await ask_server(client)
        clients: dict[str, Measured] = {OURS: client}
        if REDIS_PY in plan.clients:
            clients[REDIS_PY] = await stack.enter_async_context(redis_py(client, target.options, plan.callers))
        await stack.enter_async_context(stored(client, keys))
        await alternate(plan, clients, keys, done)


def _uvloop() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop  # noqa: PLC0415  # an extra
    except ImportError:
        problem = '--uvloop needs uvloop, which is not installed: pip install "aioredis_kit[uvloop]", or leave it out'
    else:
        new_event_loop: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
        return new_event_loop
    raise ConfigurationError(problem)


@contextmanager
def _progress(output: Output, results: Results) -> Iterator[Callable[[str, Round | None], None]]:
    """Draw a bar, if somebody watches; give what is told of each round.

    It is drawn between rounds alone: whatever ran beside them would be measured as well.
    """
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=output.console,
        auto_refresh=False,
        transient=True,
    )
    task = bar.add_task("measuring", total=results.plan.steps)

    def done(name: str, measured: Round | None) -> None:
        if measured is not None:
            results.rounds[name].append(measured)
        if output.is_live:
            bar.update(task, advance=1, refresh=True)

    with bar if output.is_live else nullcontext():  # disabled, it prints a line with some releases of rich
        yield done
