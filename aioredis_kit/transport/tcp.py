"""What the system knows of a TCP connection and nobody else can tell: whether the peer's machine is still there.

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
_INFO: Final = struct.Struct("=24xI28xI")
"""Of Linux's ``struct tcp_info``: how many segments are not acknowledged, and how many milliseconds ago the latest
acknowledgement came."""


def unacknowledged_for(sock: Any) -> float | None:
    """Tell for how long the peer's machine has acknowledged nothing of what was sent to it.

    Args:
        sock: A transport's socket.

    Returns:
        Seconds; 0 if it has acknowledged everything; ``None`` where the system does not tell.
    """
    if _TCP_INFO is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return None
    try:
        # A socket of its own for the same connection: uvloop's lets nobody ask.
        with socket.socket(fileno=os.dup(sock.fileno())) as own:
            unacknowledged, ago = _INFO.unpack(own.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _INFO.size))
    except (OSError, struct.error):  # just closed, or a system that only resembles Linux
        return None
    return ago / 1000 if unacknowledged else 0.0
