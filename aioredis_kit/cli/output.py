"""What commands say: text for people, or one JSON document; and what they exit with.

Rules of this file:

1. Without a terminal there are no control characters, whatever the environment says of colours.
2. Text is wrapped at spaces alone: an address or a path is never cut in two.
3. JSON is all that stdout gets then. An error is ``{"error": {"kind", "message", "remedy"}}``.
"""

from __future__ import annotations

import asyncio
import enum
import functools
import json
import os
import sys
import textwrap
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, TypeVar

import click
from redis.exceptions import RedisError
from rich.console import Console
from rich.text import Text

from aioredis_kit.cli.failures import Failure, failure_of
from aioredis_kit.cli.lookups import LookUps
from aioredis_kit.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence
    from typing import TextIO

__all__ = ["ExitCode", "Output", "reporting", "run"]

P = ParamSpec("P")
T = TypeVar("T")

_NARROWEST: Final = 40


class ExitCode(enum.IntEnum):
    """What the process ends with."""

    WELL = 0
    WRONG = 1
    """Something is wrong with the server, the way to it, or what was found there."""
    MISUSED = 2
    """The arguments or the configuration are wrong: nothing was connected."""
    INTERRUPTED = 130
    """Ctrl-C."""


class Output:
    """Where one command says what it found.

    Attributes:
        as_json: Whether that is one JSON document.
        console: Stdout, for what has to be drawn: tables and progress. Nothing may be written to it if ``as_json``.
    """

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.console = _console(sys.stdout)
        self._errors = _console(sys.stderr)

    @property
    def is_live(self) -> bool:
        """Whether somebody watches: progress can be drawn and erased."""
        return self.console.is_terminal and not self.console.is_dumb_terminal and not self.as_json

    @property
    def width(self) -> int:
        """How many columns there are."""
        return max(self.console.width, _NARROWEST)

    def say(self, text: str = "", style: str = "", *, indent: int = 0, hang: int = 2) -> None:
        """Print a paragraph, unless JSON is wanted.

        Args:
            text: What to say.
            style: How it looks where colours can be seen, such as ``bold red``.
            indent: By how many columns it is indented.
            hang: By how many more all lines but the first are.
        """
        if not self.as_json:
            _print(self.console, wrapped(text, self.width, indent=indent, hang=hang), style)

    def columns(self, rows: Sequence[Sequence[str]], styles: Sequence[str], *, indent: int = 0) -> None:
        """Print rows in columns; one that is too wide has each of its cells on lines of its own."""
        if self.as_json or not rows:
            return
        room = self.width - indent
        widths = [max(len(row[place]) for row in rows) for place in range(len(styles))]
        if sum(widths) + 2 * (len(widths) - 1) > room:
            widths = _narrowed(rows, room)
        for row in rows:
            line = Text(" " * indent)
            if any(len(cell) > width for cell, width in zip(row, widths, strict=True)):
                self._stack(row, styles, indent)
                continue
            for cell, width, style in zip(row, widths, styles, strict=True):
                line.append(f"{cell:{width}}", style).append("  ")
            line.rstrip()
            self.console.print(line, soft_wrap=True)

    def _stack(self, row: Sequence[str], styles: Sequence[str], indent: int) -> None:
        for place, (cell, style) in enumerate(zip(row, styles, strict=True)):
            self.say(cell, style, indent=indent + (4 if place else 0))

    def document(self, content: Mapping[str, Any]) -> None:
        """Print the JSON document, if that is wanted."""
        if self.as_json:
            click.echo(json.dumps(content, indent=2))

    def fail(self, failure: Failure) -> None:
        """Say why the command could not do what it was asked for: on stderr, or in JSON."""
        if self.as_json:
            self.document({"error": failure.as_dict()})
            return
        width = max(self._errors.width, _NARROWEST)
        _print(self._errors, wrapped(f"error: {failure.message}", width), "red")
        if failure.remedy:
            _print(self._errors, wrapped(f"  try: {failure.remedy}", width, hang=7), "")


def reporting(command: Callable[Concatenate[Output, P], ExitCode]) -> Callable[P, None]:
    """Make a function that says what it finds a click command's: it gets ``--json``; its errors are told, in words.

    The function returns what the process exits with.
    """

    @click.option("--json", "as_json", is_flag=True, help="Print one JSON document, and nothing else.")
    @functools.wraps(command)
    def reported(*args: P.args, **kwargs: P.kwargs) -> None:
        output = Output(as_json=bool(kwargs.pop("as_json")))
        try:
            code = command(output, *args, **kwargs)
        except ConfigurationError as error:
            output.fail(failure_of(error))
            code = ExitCode.MISUSED
        except RedisError as error:
            output.fail(failure_of(error))
            code = ExitCode.WRONG
        except KeyboardInterrupt:
            output.fail(Failure("Interrupted", "interrupted before there was anything to tell"))
            code = ExitCode.INTERRUPTED
        raise click.exceptions.Exit(code)

    return reported


def run(work: Coroutine[Any, Any, T], *, loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None) -> T:
    """Run a coroutine on an event loop of its own, and return what it returns.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed. The coroutine was cancelled, and has ended.
    """
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.get_loop().set_default_executor(LookUps())
        return runner.run(work)


def wrapped(text: str, width: int, *, indent: int = 0, hang: int = 2) -> str:
    """Return text with line ends in place of spaces, such that it fits where words are short enough."""
    return textwrap.fill(
        text,
        width,
        initial_indent=" " * indent,
        subsequent_indent=" " * (indent + hang),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _console(stream: TextIO) -> Console:
    is_plain = bool(os.environ.get("NO_COLOR"))
    return Console(
        file=stream,
        force_terminal=stream.isatty(),
        color_system=None if is_plain else "auto",
        no_color=is_plain or None,
        highlight=False,
        markup=False,
        emoji=False,
    )


def _print(console: Console, text: str, style: str) -> None:
    console.print(Text(text, style), soft_wrap=True)


def _narrowed(rows: Sequence[Sequence[str]], room: int) -> list[int]:
    """Return the widths of columns in which the rows fit that are not the widest ones."""
    kept = sorted(rows, key=lambda row: sum(map(len, row)))
    widths = [0] * len(rows[0])
    for row in kept:
        grown = [max(width, len(cell)) for width, cell in zip(widths, row, strict=True)]
        if sum(grown) + 2 * (len(grown) - 1) > room:
            break
        widths = grown
    return widths
