"""A load generator for web services: visitors with a connection each, who ask one thing after the other."""

from __future__ import annotations

import asyncio
import itertools
import time
from dataclasses import dataclass

ANSWERED_WITHIN = 10.0
"""How long a visitor waits at all, in seconds: longer is a hang."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a visitor was told.

    Attributes:
        method: Of the request.
        status: The HTTP status.
        headers: By their names in lower case.
        body: The content.
        began: When it was asked, on the monotonic clock.
        ended: When it was answered.
    """

    method: str
    status: int
    headers: dict[str, str]
    body: bytes
    began: float
    ended: float

    @property
    def seconds(self):
        """How long that took."""
        return self.ended - self.began


async def ask(reader, writer, method, path):
    """Send a request, and return its answer; ``None`` if the server hung up instead, as it may between requests."""
    began = time.monotonic()
    async with asyncio.timeout(ANSWERED_WITHIN):
        try:
            writer.write(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            if error.partial:
                raise
            return None
        except ConnectionError:
            return None
        status, *lines = head.decode("latin-1").strip().splitlines()
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        body = await reader.readexactly(int(headers["content-length"]))
    return Answer(method, int(status.split()[1]), headers, body, began, time.monotonic())


async def visit(port, answers, requests):
    """Ask one thing after the other on one connection, until the server hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for method, path in itertools.cycle(requests):
            answer = await ask(reader, writer, method, path)
            if answer is None:
                return
            answers.append(answer)
            if answer.headers.get("connection") == "close":
                return
    finally:
        writer.close()


async def ask_once(port, method, path):
    """Ask one thing on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        return await ask(reader, writer, method, path)
    finally:
        writer.close()
