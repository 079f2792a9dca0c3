"""Make of the options what connections are made of. Here a TLS context reads its files; nothing else is I/O."""

from __future__ import annotations

import random
import time
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from aioredis_kit._redispy import error_reply
from aioredis_kit.lanes.equipment import Equipment
from aioredis_kit.options import TLSOptions
from aioredis_kit.policy.commands import CommandTable
from aioredis_kit.policy.reconnect import make_strategy
from aioredis_kit.transport.dial import Address, Dialler
from aioredis_kit.wire.encoder import Encoder

if TYPE_CHECKING:
    from aioredis_kit.options import Options
    from aioredis_kit.transport.tls import TLSContext

LIBRARY: Final = "aioredis_kit"


def equip(options: Options) -> Equipment:
    """Return the equipment of a new client.

    Raises:
        ConfigurationError: The TLS options name a file that can't be read, or the like.
    """
    return Equipment(
        options=options,
        dialler=_dialler(options),
        encoder=Encoder(options.encoding, options.encoding_errors),
        error_reply=error_reply,
        strategy=make_strategy(options.reconnect_strategy, random.uniform),
        commands=CommandTable(),
        client_info=_client_info(options),
        clock=time.monotonic,
        now=time.time,
        uniform=random.uniform,
    )


def _dialler(options: Options) -> Dialler:
    context: TLSContext | None = None
    if options.tls is not False:
        from aioredis_kit.transport.tls import TLSContext  # noqa: PLC0415  # ssl takes 10 ms and few clients need it

        context = TLSContext(TLSOptions() if options.tls is True else options.tls)
    name = options.tls.server_hostname if isinstance(options.tls, TLSOptions) else None
    address = Address(host=options.host, port=options.port, path=options.unix_socket_path)
    return Dialler(address=address, tls=context, server_hostname=name, options=options.socket)


def _client_info(options: Options) -> tuple[tuple[str, str], ...]:
    if options.disable_client_info:
        return ()
    tag = options.client_info_tag
    return ("LIB-NAME", f"{LIBRARY}({tag})" if tag else LIBRARY), ("LIB-VER", version(LIBRARY))
