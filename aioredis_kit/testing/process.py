"""A server process that can't outlive the process that started it.

A watcher, a shell of three lines, reads from a pipe that only the owner holds open. The owner's
end, by ``kill -9`` too, closes the pipe; the watcher then kills the server and removes its folder.
Linux's PR_SET_PDEATHSIG won't do: it fires when the *thread* that forked ends.

Rules of this file:

1. A server tells the watcher its pid itself, before it becomes the server: there is no moment at
   which it runs unwatched.
2. The watcher hears of a server's death from the one who reaped it, so it never kills a pid that
   has become somebody else's.
3. Nothing started later inherits the pipe: it closes on exec. A child that is forked and doesn't
   exec keeps it, and with it the server, for as long as that child lives.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_WATCH = """
while read -r line; do pid=$line; done
[ -n "$pid" ] && kill -9 "$pid"
rm -rf "$1"
"""
_LAUNCH = 'echo $$; exec "$@" >>"$0" 2>&1'


class Lifeline:
    """The watcher of a temporary folder and of one server process at a time.

    Lifecycle: made before the first server, `cut` after the last one.

    Attributes:
        folder: The new folder, readable by its owner only; removed at the end, whichever way that comes.
        pipe: The end that the watcher listens to. A server tells its pid through it.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="aioredis-kit-"))
        read_end, write_end = os.pipe()
        self.pipe = os.fdopen(write_end, "wb", buffering=0)
        try:
            self._watcher = subprocess.Popen(  # noqa: S603 -- our own script
                ["/bin/sh", "-c", _WATCH, "aioredis-kit-watcher", self.folder],
                stdin=read_end,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # out of reach of a terminal's Ctrl-C
            )
        except BaseException:  # no shell, or an interrupt: nobody else would close the pipe
            self.pipe.close()
            raise
        finally:
            os.close(read_end)

    def forget(self) -> None:
        """Tell the watcher that the server is dead and reaped."""
        self.pipe.write(b"\n")

    def cut(self) -> None:
        """End the watcher, with the server if it still runs, and with the folder."""
        self.pipe.close()
        self._watcher.wait()


class ServerProcess:
    """One run of a server.

    Lifecycle: runs when constructed; ends by itself, by `kill` or by `terminate`, and is reaped
    by whichever method notices first.

    Args:
        command: The binary and its arguments.
        log: The file that its output is appended to.
        lifeline: Who kills it when we are gone.
    """

    def __init__(self, command: Sequence[str | Path], *, log: Path, lifeline: Lifeline) -> None:
        self._lifeline = lifeline
        self._is_paused = False
        self._is_reaped = False
        self._process = subprocess.Popen(  # noqa: S603 -- a binary that the caller chose to run
            ["/bin/sh", "-c", _LAUNCH, log, *command],
            stdin=subprocess.DEVNULL,
            stdout=lifeline.pipe,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # out of reach of a terminal's Ctrl-C
        )
        self.pid = self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process is there, paused or not."""
        if self._process.poll() is None:
            return True
        self._note_death()
        return False

    def pause(self) -> None:
        """Stop the process by SIGSTOP and wait until it has stopped."""
        if self.is_running and not self._is_paused:
            self._is_paused = True
            os.kill(self.pid, signal.SIGSTOP)
            os.waitpid(self.pid, os.WUNTRACED)

    def resume(self) -> None:
        """Let a paused process go on."""
        if self.is_running and self._is_paused:
            self._is_paused = False
            os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """End the process by SIGKILL and wait until it is gone."""
        if self.is_running:
            self._process.kill()
            self._process.wait()
            self._note_death()

    def terminate(self, *, patience: float) -> None:
        """End the process by SIGTERM, and after *patience* seconds by SIGKILL."""
        if self.is_running:
            self.resume()
            self._process.terminate()
            deadline = time.monotonic() + patience
            while self._process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.002)  # Popen.wait(timeout) would sleep up to 50 ms at a time
            self.kill()

    def _note_death(self) -> None:
        if not self._is_reaped:
            self._is_reaped = True
            self._lifeline.forget()
