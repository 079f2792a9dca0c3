"""A peer whose packets nobody gets: what a firewall or a pulled cable does, on the loopback and without any rights."""

from __future__ import annotations

import ctypes
import socket
import struct
import sys

import pytest

_ATTACH_FILTER = 26
_DETACH_FILTER = 27
_RETURN = 0x06


class _Instruction(ctypes.Structure):
    _fields_ = (("code", ctypes.c_ushort), ("jt", ctypes.c_ubyte), ("jf", ctypes.c_ubyte), ("k", ctypes.c_uint))


def swallow(proxy):
    """Let no packet reach a fault proxy on its open connections: nothing is read there, and nothing acknowledged."""
    if sys.platform != "linux":
        pytest.skip("only Linux has socket filters")
    drop_all = _Instruction(_RETURN, 0, 0, 0)
    program = struct.pack("HP", 1, ctypes.addressof(drop_all))
    for sock in _sockets(proxy):
        sock.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, program)


def let_through(proxy):
    """End it: what is sent again comes through."""
    for sock in _sockets(proxy):
        sock.setsockopt(socket.SOL_SOCKET, _DETACH_FILTER, 0)


def _sockets(proxy):
    return [connection._client._sock for connection in proxy._open_connections()]
