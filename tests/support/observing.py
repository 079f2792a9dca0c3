"""Look at a client from outside: wait for what it does, and note what it tells."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import time
from pathlib import Path

from aioredis_kit.events import EVENT_NAMES


async def until(condition, what="the condition", *, timeout=5.0):
    """Wait until a condition holds. The limit is real time, also where the loop's clock is virtual."""
    end = time.monotonic() + timeout
    while not (outcome := condition()):
        assert time.monotonic() < end, f"{what} did not come true within {timeout} s"
        await asyncio.sleep(0.001)
    return outcome


async def turns(count=20):
    """Let the loop turn a few times: what was scheduled, and what that schedules, happens."""
    for _ in range(count):
        await asyncio.sleep(0)


class EventRecord(list):
    """Every event of a client from now on, in the order in which listeners are told: ``(name, *arguments)``."""

    def __init__(self, client):
        super().__init__()
        self._client = client
        self._grown = asyncio.Event()
        self._listeners = {name: self._listener(name) for name in EVENT_NAMES}
        for name, listener in self._listeners.items():
            client.on(name, listener)

    @property
    def names(self):
        """The names alone."""
        return [name for name, *_ in self]

    def of(self, name):
        """Return the arguments of the events of one name, those of one argument bare."""
        found = [arguments for each, *arguments in self if each == name]
        return [arguments[0] if len(arguments) == 1 else tuple(arguments) for arguments in found]

    def note(self, *entry):
        """Add an entry of the test's own, to see its place among the events."""
        self.append(entry)

    async def wait_for(self, name, count=1, *, timeout=5.0):
        """Wait until an event has happened so many times. No timer but the limit, so that virtual time can jump."""
        try:
            async with asyncio.timeout(timeout):
                while self.names.count(name) < count:
                    self._grown.clear()
                    await self._grown.wait()
        except TimeoutError:
            raise AssertionError(f"{name} x {count} did not come within {timeout} s, but {self.names}") from None

    def _listener(self, name):
        def listen(*arguments):
            self.append((name, *arguments))
            self._grown.set()

        return listen


async def outcome(awaitable):
    """Return what an awaitable yields or raises, cancellation included."""
    (result,) = await asyncio.gather(awaitable, return_exceptions=True)
    return result


def job_tasks():
    """The tasks of clients on this loop."""
    return {task for task in asyncio.all_tasks() if task.get_name().startswith("aioredis-kit:")}


def timers(loop):
    """The timers of the loop that will still fire."""
    return [handle for handle in loop._scheduled if not handle.cancelled()]


def sockets_to(port):
    """The file descriptors of this process that are connected to a TCP port of its own."""
    descriptors = [int(each.name) for each in Path("/dev/fd").iterdir()]
    return [each for each in descriptors if _remote_port(each) == port]


def _remote_port(descriptor):
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return None
        with socket.socket(fileno=os.dup(descriptor)) as sock:
            return sock.getpeername()[1] if sock.family == socket.AF_INET else None
    except OSError:  # closed meanwhile, or not connected any more
        return None
