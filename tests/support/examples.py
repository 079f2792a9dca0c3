"""Run an example as its users do: in a process of its own, where every warning is an error."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
import time
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"


class Running:
    """A running program.

    Attributes:
        lines: What it has said until now, on either stream.
    """

    def __init__(self, process):
        self.lines = []
        self._process = process
        self._said = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    async def wait_for(self, pattern, *, timeout=30.0):
        """Wait until it says something, and return the match."""
        try:
            async with asyncio.timeout(timeout):
                while not (found := next(filter(None, (re.search(pattern, line) for line in self.lines)), None)):
                    assert not self._reading.done(), f"{pattern!r} was never said, but: {self.text}"
                    self._said.clear()
                    await self._said.wait()
        except TimeoutError:
            raise AssertionError(f"{pattern!r} was not said within {timeout} s, but: {self.text}") from None
        return found

    def send(self, what):
        """Send a signal, to its children too: all are of a session of their own."""
        os.killpg(self._process.pid, what)

    async def wait(self, *, timeout=20.0):
        """Wait until it ends, and return its exit code."""
        try:
            async with asyncio.timeout(timeout):
                await self._reading
                return await self._process.wait()
        except TimeoutError:
            raise AssertionError(f"it did not end within {timeout} s, and has said: {self.text}") from None

    async def stop(self):
        """Send SIGTERM, and return its exit code and how long that took, in seconds."""
        began = time.monotonic()
        self.send(signal.SIGTERM)
        return await self.wait(), time.monotonic() - began

    @property
    def text(self):
        """What it has said, as one text."""
        return "\n".join(self.lines)

    async def _read(self):
        async for line in self._process.stdout:
            self.lines.append(line.decode().rstrip("\n"))
            self._said.set()
        self._said.set()


@contextlib.asynccontextmanager
async def running(*command, **variables):
    """Run Python with these arguments and variables of the environment; kill what is left of it in the end."""
    environment = {"PYTHONPATH": str(EXAMPLES.parent), "PYTHONUNBUFFERED": "1", "PYTHONASYNCIODEBUG": ""}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-W",
        "error",
        *command,
        env={**os.environ, **environment, **variables},
        cwd=EXAMPLES.parent,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    program = Running(process)
    try:
        yield program
    finally:
        with contextlib.suppress(ProcessLookupError):
            program.send(signal.SIGKILL)
        await program.wait()
