"""Issue commands without a client, and answer them without a server."""

import asyncio
import math

from aioredis_kit.options import CommandOptions
from aioredis_kit.transport.command import new_command, wait, wake
from aioredis_kit.transport.tally import Tally
from aioredis_kit.wire.inflight import DONE, IN_FLIGHT

OPTIONS = CommandOptions(timeout=5.0, decode_responses=False, retry_unanswered="never")


class Lane:
    """Notes what it is told."""

    def __init__(self):
        self.told = []
        self.tally = Tally()

    def withdrawn(self, command):
        self.told.append(command)

    def abandoned(self):
        pass


def make_command(*, is_sent=True):
    """Return a command, by default one whose reply is due."""
    command = new_command(
        asyncio.get_running_loop(), ("GET", "k"), b"payload", decode=False, options=OPTIONS, deadline=math.inf
    )
    command.lane = Lane()
    if is_sent:
        command.state = IN_FLIGHT
        command.written = (0.0, 0, 0)
    return command


async def ask(command):
    """Do what the client does with a command."""
    try:
        await wait(command)
    except BaseException:
        command.abandon()
        raise
    if isinstance(command.reply, BaseException):
        raise command.reply
    return command.reply


def answer(*commands):
    """Do what the machine and the protocol do with a reply to each."""
    answered = []
    for command in commands:
        if command.state == IN_FLIGHT:
            command.state = DONE
            command.reply = f"reply to {command.payload.decode()}"
            answered.append(command)
    if answered:
        loop = asyncio.get_running_loop()
        loop.call_soon(wake, loop, answered)


def start(coroutine):
    """Start a task."""
    return asyncio.get_running_loop().create_task(coroutine)


async def turn():
    """Let the loop turn once."""
    await asyncio.sleep(0)


async def result_of(task):
    """What came of a task, as something to compare."""
    await asyncio.wait([task])
    if task.cancelled():
        try:
            task.result()
        except asyncio.CancelledError as error:
            return "cancelled", error.args
    error = task.exception()
    return ("raised", type(error), str(error)) if error is not None else ("returned", task.result())
