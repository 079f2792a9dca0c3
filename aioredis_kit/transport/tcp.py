"""What the system knows of a TCP connection and nobody else can tell: whether the peer's machine is there, and how far.

A server that is busy or stopped, and one whose packets a firewall swallows, look alike to whoever waits for a reply.
But the machine of the first acknowledges what is sent to it, whatever the server does.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from typing import Any, Final

_TCP_INFO: Final = getattr(socket, "TCP_INFO", None) if sys.platform == "linux" else None
_INFO: Final = struct.Struct("=24xI28xI8xI")
"""Of Linux's ``struct tcp_info``: how many segments are not acknowledged, how many milliseconds ago the latest
acknowledgement came, and after how many microseconds acknowledgements come, smoothed."""


def unacknowledged_for(sock: Any) -> float | None:
    """Tell for how long the peer's machine has acknowledged nothing of what was sent to it.

    Args:
        sock: A transport's socket.

    Returns:
        Seconds; 0 if it has acknowledged everything; ``None`` where the system does not tell.
    """
    if (info := _info(sock)) is None:
        return None
    unacknowledged, ago, _ = info
    return ago / 1000 if unacknowledged else 0.0


def round_trip(sock: Any) -> float | None:
    """Tell how long it takes until the peer's machine acknowledges what is sent to it: the network's part of a reply.

    Args:
        sock: A transport's socket.

    Returns:
        Seconds; ``None`` where the system does not tell.
    """
    info = _info(sock)
    return None if info is None or not info[2] else info[2] / 1_000_000


def _info(sock: Any) -> tuple[int, int, int] | None:
    if _TCP_INFO is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return None
    try:
        # A socket of its own for the same connection: uvloop's lets nobody ask.
        with socket.socket(fileno=os.dup(sock.fileno())) as own:
            unacknowledged, ago, trip = _INFO.unpack(own.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _INFO.size))
    except (OSError, struct.error):  # just closed, or a system that only resembles Linux
        return None
    return unacknowledged, ago, trip
