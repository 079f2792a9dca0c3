"""Run the command line: in this process, or in one of its own, on a terminal or not."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

from click.testing import CliRunner

from aioredis_kit.cli.app import program

ROOT = Path(__file__).parents[2]
COLUMNS = 80
COMMAND = (sys.executable, "-W", "error", "-m", "aioredis_kit")
NOTHING_SAID = {
    name: None
    for name in os.environ
    if name.startswith(("REDIS_", "AZURE_CACHE", "ConnectionStrings__")) or name in {"NO_COLOR", "FORCE_COLOR"}
}
"""What takes away from the environment what could name a server, or say something of colours."""


def invoke(*arguments, **variables):
    """Run it in this process, with more variables in the environment; return what came of it."""
    environment = {**NOTHING_SAID, "COLUMNS": str(COLUMNS), **variables}
    return CliRunner().invoke(program, [str(each) for each in arguments], env=environment, prog_name="aioredis-kit")


def document(result):
    """Return the one JSON document that it has printed."""
    assert result.stderr == ""
    return json.loads(result.stdout)


def _environment(variables):
    environment = {name: value for name, value in os.environ.items() if name not in NOTHING_SAID}
    return {**environment, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "PYTHONASYNCIODEBUG": "", **variables}


@contextlib.contextmanager
def _interruptible():
    """Start processes that Ctrl-C ends: a shell's background jobs ignore it, and so would their children."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def started(*arguments, **variables):
    """Run it in a process and session of its own, with pipes; kill what is left of it in the end."""
    with _interruptible():
        process = subprocess.Popen(
            [*COMMAND, *map(str, arguments)],
            env=_environment(variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
    with process:
        try:
            yield process
        finally:
            process.kill()


def run(*arguments, **variables):
    """Run it in a process of its own until it ends; return its exit code, stdout and stderr."""
    with started(*arguments, **variables) as process:
        out, err = process.communicate(timeout=30)
        return process.returncode, out, err


def interrupt(process):
    """Press Ctrl-C; return its exit code, and the rest of stdout and stderr."""
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=10)
    return process.returncode, out, err


def run_on_a_terminal(*arguments, **variables):
    """Run it on a terminal of 80 columns; return its exit code, and what it wrote there."""
    main, other = pty.openpty()
    fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    environment = _environment({"TERM": "xterm-256color", **variables})
    environment.pop("COLUMNS", None)
    with _interruptible():
        process = subprocess.Popen(
            [*COMMAND, *map(str, arguments)],
            env=environment,
            stdin=other,
            stdout=other,
            stderr=other,
            start_new_session=True,
        )
    os.close(other)
    with process, os.fdopen(main, "rb", buffering=0) as terminal:
        written = b""
        with contextlib.suppress(OSError):  # that is how a terminal ends
            while some := terminal.read(65536):
                written += some
        return process.wait(timeout=30), written.decode()
