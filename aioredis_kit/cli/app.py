"""The program with its commands. Each is imported when it is used."""

from __future__ import annotations

import importlib
import io
import logging
import re
import sys
from typing import TYPE_CHECKING, Any, Final

import click

from aioredis_kit.cli.output import ExitCode
from aioredis_kit.policy.secrets import MASK

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["program"]

_COMMANDS: Final = {
    "ping": "aioredis_kit.cli.ping:ping",
    "parse": "aioredis_kit.cli.parse:parse",
    "bench": "aioredis_kit.cli.bench.command:bench",
    "doctor": "aioredis_kit.cli.doctor.command:doctor",
}
_TELLING: Final = re.compile(r"[:@,=/]")
"""What has one of these may be a URL or a connection string, or a part of one."""

_SHORTEST: Final = 4
"""What is shorter holds no password, and would be found anywhere."""


class _Program(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # click's
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def main(self, args: Sequence[str] | None = None, *more: Any, **options: Any) -> Any:
        """Run a command and exit. A usage error quotes what was given: not if that may have a password in it."""
        words = sys.argv[1:] if args is None else list(args)
        try:
            code = super().main(words, *more, **options | {"standalone_mode": False})
        except click.Abort:
            code = ExitCode.INTERRUPTED
        except click.ClickException as error:
            text = io.StringIO()
            error.show(text)
            click.echo(_masked(text.getvalue(), words), err=True, nl=False)
            code = error.exit_code
        sys.exit(code)


def _masked(message: str, words: Sequence[str]) -> str:
    for quoted in sorted(_quotable(words), key=len, reverse=True):
        message = message.replace(quoted, MASK)
    return message


def _quotable(words: Sequence[str]) -> Iterator[str]:
    for word in words:
        value = word.partition("=")[2] if word.startswith("--") else word
        if len(value) >= _SHORTEST and _TELLING.search(value):
            yield value
            yield repr(value)[1:-1]


@click.group(cls=_Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="aioredis_kit", message="%(prog)s %(version)s")
def program() -> None:
    """Look at a Redis, Valkey or Garnet server as a client of aioredis_kit does.

    TARGET is a URL (redis://localhost:6379), a connection string of StackExchange.Redis (cache:6380,ssl=true), or a
    name in the environment: "cache" stands for ConnectionStrings__cache, CACHE_URI or CACHE_HOST. Without one the
    server is that of REDIS_URL or REDIS_HOST, as for create_client_from_env(). Others on this machine can see
    arguments: passwords are better kept in the environment.

    Exit codes: 0 well, 1 trouble with the server or the way to it, 2 wrong arguments or configuration, 130 Ctrl-C.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # rather than fail where a name can't be written in its encoding
    # Whatever matters is told by the commands themselves; without a handler, warnings would go to stderr as well.
    logging.getLogger("aioredis_kit").addHandler(logging.NullHandler())
