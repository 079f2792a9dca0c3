"""Raw sockets on an event loop, for the fault proxy and the scripted peer.

asyncio's transports decide by themselves when bytes and closings go out. A test that says "these
five bytes, then a reset" can't live with that, so this works on the loop's reader and writer
callbacks, on asyncio and uvloop alike, without a task.

Rules of this file:

1. What `SocketEnd.send` is given leaves at once as far as the kernel takes it, the rest in order.
2. `SocketEnd.close` and `SocketEnd.reset` have happened when they return.
3. FIN from the other side is told once, after its last byte; an error closes this end and is then
   told once. Neither is told after our own closing.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_READ_SIZE = 256 * 1024
"""As asyncio's own transports: a larger write arrives as several chunks."""

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER on, zero seconds: closing discards what is unsent and sends RST."""


class SocketEnd:
    """One end of a connected or connecting stream socket.

    Lifecycle: made by its owner, who calls `start` once and ends it with `finish`, `close` or
    `reset`. `send` may find that the other side is gone, and then calls *on_end* itself.

    Args:
        sock: A non-blocking stream socket, owned from now on.
        on_data: Called with the bytes of each read.
        on_end: Called when the other side is gone: ``None`` for FIN, else the error.
        on_sent: Called when everything unsent has gone out.
        is_connecting: Whether a non-blocking connect is still under way.
    """

    def __init__(
        self,
        sock: socket.socket,
        *,
        on_data: Callable[[bytes], None],
        on_end: Callable[[OSError | None], None],
        on_sent: Callable[[], None] = lambda: None,
        is_connecting: bool = False,
    ) -> None:
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.is_open = True
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._on_data = on_data
        self._on_end = on_end
        self._on_sent = on_sent
        self._is_connecting = is_connecting
        self._is_reading = False
        self._is_writing = False
        self._is_finishing = False
        self._eof_is_due = False
        self._eof_is_sent = False
        self._eof_is_read = False
        self._unsent = bytearray()

    @property
    def is_congested(self) -> bool:
        """Whether bytes given to `send` still wait for the kernel."""
        return self._is_connecting or bool(self._unsent)

    def start(self) -> None:
        """Begin to read, or to wait for the connection."""
        if self._is_connecting:
            self._watch_writable()
        else:
            self.resume_reading()

    def send(self, data: bytes | bytearray | memoryview) -> None:
        """Send *data* behind what is unsent."""
        if not self.is_open or self._eof_is_due:
            return
        was_congested = self.is_congested
        self._unsent += data
        if not was_congested:
            self._flush()

    def send_eof(self) -> None:
        """Send FIN behind what is unsent; reading goes on."""
        if self.is_open and not self._eof_is_due:
            self._eof_is_due = True
            if not self.is_congested:
                self._shut_writing()

    def finish(self) -> None:
        """Send FIN behind what is unsent, discard what still comes in, close after its end.

        Unlike `close`, this can't turn into a RST because of unread bytes.
        """
        if not self.is_open:
            return
        self._is_finishing = True
        self.send_eof()
        self._close_when_finished()
        self.resume_reading()

    def close(self) -> None:
        """Close now. The kernel sends FIN, or RST if there are unread bytes."""
        if self.is_open:
            self.pause_reading()
            self._unwatch_writable()
            self._unsent.clear()
            self.is_open = False
            self._sock.close()

    def reset(self) -> None:
        """Close now with RST (a Unix socket knows no RST and just closes)."""
        if self.is_open:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self.close()

    def pause_reading(self) -> None:
        """Stop reading, so that the other side's window fills up."""
        if self._is_reading:
            self._is_reading = False
            self._loop.remove_reader(self._sock)

    def resume_reading(self) -> None:
        """Read again after `pause_reading`."""
        if self.is_open and not (self._is_reading or self._eof_is_read or self._is_connecting):
            self._is_reading = True
            self._loop.add_reader(self._sock, self._read)

    def _read(self) -> None:
        try:
            data = self._sock.recv(_READ_SIZE)
        except BlockingIOError:
            return
        except OSError as exc:
            self._end(exc)
            return
        if not data:
            self._end(None)
        elif not self._is_finishing:
            self._on_data(data)

    def _flush(self) -> None:
        try:
            while self._unsent:
                sent = self._sock.send(self._unsent)
                del self._unsent[:sent]
        except BlockingIOError:
            self._watch_writable()
            return
        except OSError as exc:
            self._end(exc)
            return
        self._unwatch_writable()
        if self._eof_is_due:
            self._shut_writing()

    def _on_writable(self) -> None:
        if self._is_connecting:
            self._is_connecting = False
            code = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                self._end(OSError(code, os.strerror(code)))
                return
            self.resume_reading()
        self._flush()
        if self.is_open and not self._unsent:
            self._on_sent()

    def _end(self, error: OSError | None) -> None:
        if error is None:
            self._eof_is_read = True
            self.pause_reading()
            self._close_when_finished()
        else:
            self.close()
        self._on_end(error)

    def _shut_writing(self) -> None:
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as exc:
            self._end(exc)  # the other side has reset the connection already
        else:
            self._eof_is_sent = True
            self._close_when_finished()

    def _close_when_finished(self) -> None:
        if self._is_finishing and self._eof_is_read and self._eof_is_sent:
            self.close()

    def _watch_writable(self) -> None:
        if not self._is_writing:
            self._is_writing = True
            self._loop.add_writer(self._sock, self._on_writable)

    def _unwatch_writable(self) -> None:
        if self._is_writing:
            self._is_writing = False
            self._loop.remove_writer(self._sock)


_NO_DESCRIPTORS: Final = frozenset({errno.EMFILE, errno.ENFILE})
_DESCRIPTORS_PAUSE: Final = 0.05
"""How long to wait for a descriptor to become free, in seconds."""


class Listener:
    """A loopback TCP port that stays ours while connections to it are refused.

    A second socket is bound to the port and never listens: it keeps others away. A port that is
    given up and bound again would sooner or later be somebody else's.

    Lifecycle: `open` and `shut` as often as one likes, `close` once.

    Args:
        on_connection: Called with each accepted, non-blocking socket.
    """

    def __init__(self, on_connection: Callable[[socket.socket], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_connection = on_connection
        self._listening: socket.socket | None = None
        self.host = "127.0.0.1"
        self._placeholder = _bind(self.host, 0)
        self.port: int = self._placeholder.getsockname()[1]

    def open(self) -> None:
        """Listen; does nothing if it does already."""
        if self._listening is None:
            self._listening = _bind(self.host, self.port)
            self._listening.listen(128)
            self._loop.add_reader(self._listening, self.accept_pending)

    def shut(self) -> None:
        """Refuse from now on; a connection that the kernel has accepted is still taken over."""
        self.accept_pending()
        if self._listening is not None:
            self._loop.remove_reader(self._listening)
            self._listening.close()
            self._listening = None

    def close(self) -> None:
        """Stop listening and give the port up."""
        self.shut()
        self._placeholder.close()

    def accept_pending(self) -> None:
        """Take over every connection that the kernel has ready."""
        while self._listening is not None:
            try:
                accepted, _ = self._listening.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _NO_DESCRIPTORS:
                    raise
                self._loop.remove_reader(self._listening)  # it would be told at once again
                self._loop.call_later(_DESCRIPTORS_PAUSE, self._accept_again)
                return
            accepted.settimeout(0)
            self._on_connection(accepted)

    def _accept_again(self) -> None:
        if self._listening is not None:
            self._loop.add_reader(self._listening, self.accept_pending)


def _bind(host: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.settimeout(0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock
