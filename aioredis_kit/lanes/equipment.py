"""What is made once per client and used by every connection."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from aioredis_kit.options import Options
    from aioredis_kit.policy.commands import CommandTable
    from aioredis_kit.policy.reconnect import Strategy
    from aioredis_kit.transport.dial import Dialler
    from aioredis_kit.wire.encoder import Encoder


@dataclass(frozen=True, slots=True, kw_only=True)
class Equipment:
    """Options, and what was made of them.

    Attributes:
        options: The client's options.
        dialler: Opens sockets.
        encoder: Encodes commands.
        error_reply: Makes the exception that stands for an error reply.
        strategy: Decides when to try again.
        commands: The command table.
        client_info: What to report with ``CLIENT SETINFO``: attributes, each with its value.
        clock: Monotonic seconds.
        now: Seconds since the epoch.
        uniform: ``random.uniform``, or what stands for it.
    """

    options: Options
    dialler: Dialler
    encoder: Encoder
    error_reply: Callable[[str], Exception]
    strategy: Strategy
    commands: CommandTable
    client_info: tuple[tuple[str, str], ...]
    clock: Callable[[], float]
    now: Callable[[], float] = time.time
    uniform: Callable[[float, float], float] = random.uniform
