"""A real Redis or Valkey server of one's own, for tests.

Rules of this file:

1. A server listens on loopback only, keeps its data in a folder of its own, and leaves nothing
   behind: no process, no file, whichever way its owner ends (see `process`).
2. The address and the data stay the same from the first `RedisServer.start` until
   `RedisServer.stop`, whatever happens to the process in between.
3. Secrets are in the configuration file, which only its owner can read: not on the command line,
   not in a ``repr``, not in an exception.
"""

from __future__ import annotations

import re
import secrets
import socket
import ssl
import time
from functools import cached_property
from typing import TYPE_CHECKING, Self
from urllib.parse import quote

from aioredis_kit.testing.binaries import find_binary, read_version, supports_tls
from aioredis_kit.testing.configuration import HOST, Configuration, Persistence, TLSFiles, configuration_lines
from aioredis_kit.testing.probe import ErrorReply, Probe, ServerAddress
from aioredis_kit.testing.process import Lifeline, ServerProcess

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path
    from types import TracebackType

    from aioredis_kit.testing.probe import Flavour, Version

__all__ = ["Persistence", "RedisServer", "ServerStartError", "TLSFiles"]

_STOP_PATIENCE = 5.0
_PORT_PATIENCE = 0.5
"""A server killed a moment ago can leave a child (a snapshot) that holds its port."""


class ServerStartError(RuntimeError):
    """The server didn't come up; the message ends with its log."""


class _PortTakenError(Exception):
    """Somebody else listens on the port."""


class RedisServer:
    """A server process on a free loopback port, with its data in a temporary folder.

    Lifecycle: `start` and `stop`, or a ``with`` block. Between them the process can be killed,
    paused and started again as often as one likes. `stop` is final for address and data; a later
    `start` begins anew.

    All methods block; `start` and `restart` take some 30 ms. Asynchronous code calls those two
    and `stop` through ``anyio.to_thread.run_sync``; `kill`, `pause` and `resume` are instant.
    One thread at a time.

    Args:
        binary: A path, or a name on ``PATH``; by default the first that `find_binary` finds.
        password: The default user's password.
        acl: Lines such as ``"user app on >secret ~* +@all"``.
        persistence: What outlives the process: ``"none"``; ``"aof"`` (every write, synced before
            its reply); ``"aof-everysec"``; ``"rdb"`` (a snapshot at each graceful end).
        unix_socket: Listen on a Unix socket too, and have `url` name it.
        config: More configuration, as lines or as a mapping; it overrides all the rest.
        port: A fixed port instead of a free one.
        tls: Listen with TLS instead of in the clear.

    Raises:
        ValueError: An option has a value that makes no sense.
        ServerNotFoundError: There is no such binary.
    """

    def __init__(
        self,
        *,
        binary: str | Path | None = None,
        password: str | None = None,
        acl: Iterable[str] = (),
        persistence: Persistence = "none",
        unix_socket: bool = False,
        config: Mapping[str, object] | Iterable[str] = (),
        port: int | None = None,
        tls: TLSFiles | None = None,
    ) -> None:
        if port is not None and not 1 <= port <= 65535:
            raise ValueError(f"port must be 1 to 65535, or None for a free one; got {port}")
        self.binary = find_binary(binary).path
        self.tls = tls
        self._configuration = Configuration(
            password=password,
            persistence=persistence,
            unix_socket=unix_socket,
            tls=tls,
            extra_lines=(*configuration_lines("acl", acl), *configuration_lines("config", config)),
        )
        self._given_port = port
        self._port: int | None = None
        self._lifeline: Lifeline | None = None
        self._process: ServerProcess | None = None
        self._log = ""
        self._log_start = 0

    def __repr__(self) -> str:
        where = f"{HOST}:{self._port}" if self._port else "never started"
        return f"<RedisServer {where}, {'running' if self.is_running else 'not running'}>"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self, *, timeout: float = 10.0, wait_loaded: bool = True) -> None:
        """Start the process and wait until it answers PING.

        After `kill` it comes back at the same address with the same data.

        Args:
            timeout: Seconds to wait.
            wait_loaded: Wait until its data is loaded too; False: LOADING is an answer. (A server
                that lets nobody in without an ACL user's password counts as loaded.)

        Raises:
            ServerStartError: It ended or didn't answer in time.
            RuntimeError: It runs already.
        """
        if self.is_running:
            raise RuntimeError(f"{self!r} runs already; use restart()")
        if self.tls is not None and not self.has_tls:
            raise ServerStartError(
                f"{self.binary} was built without TLS; name another binary (Debian's redis-server "
                "has it) or put a TLS-terminating proxy in front"
            )
        is_first_start = self._lifeline is None
        try:
            self._launch_until_ready(time.monotonic() + timeout, wait_loaded=wait_loaded)
        except BaseException:  # late, or an interrupt: no process is left that nobody knows of
            if is_first_start:
                self.stop()
            else:
                self.kill()
            raise

    def stop(self) -> None:
        """End the process (SIGTERM, after 5 s SIGKILL) and remove its data. Idempotent."""
        if self._process is not None:
            self._process.terminate(patience=_STOP_PATIENCE)
        if self._lifeline is not None:
            self._log = self.log
            self._lifeline.cut()
        self._process = self._lifeline = self._port = None

    def kill(self) -> None:
        """End the process by SIGKILL. `start` brings it back with what it had persisted."""
        if self._process is not None:
            self._process.kill()

    def pause(self) -> None:
        """Stop the process by SIGSTOP: connections stay, nothing is answered. Idempotent."""
        if self._process is not None:
            self._process.pause()

    def resume(self) -> None:
        """Let a paused process go on (SIGCONT). Idempotent."""
        if self._process is not None:
            self._process.resume()

    def restart(self, *, timeout: float = 10.0, wait_loaded: bool = True) -> None:
        """End the process gracefully if it runs, and `start` it at the same address."""
        if self._process is not None:
            self._process.terminate(patience=_STOP_PATIENCE)
        self.start(timeout=timeout, wait_loaded=wait_loaded)

    @property
    def is_running(self) -> bool:
        """Whether the process is there, paused or not."""
        return self._process is not None and self._process.is_running

    @property
    def started_here(self) -> bool:
        """True: the tests may do with this server as they like."""
        return True

    @property
    def pid(self) -> int:
        """The process's id.

        Raises:
            RuntimeError: It isn't running.
        """
        if self._process is None or not self._process.is_running:
            raise RuntimeError(f"{self!r} has no process")
        return self._process.pid

    @property
    def host(self) -> str:
        """The loopback address."""
        return HOST

    @property
    def port(self) -> int:
        """The TCP port.

        Raises:
            RuntimeError: The server has never been started.
        """
        if self._port is None:
            raise RuntimeError(f"{self!r} has no address yet; start() it first")
        return self._port

    @property
    def folder(self) -> Path:
        """The data's folder, from `start` until `stop`.

        Raises:
            RuntimeError: The server has never been started.
        """
        return self._home.folder

    @property
    def unix_socket_path(self) -> Path | None:
        """The Unix socket, or None if it wasn't asked for."""
        return self._configuration.unix_socket_path(self.folder)

    @property
    def url(self) -> str:
        """The URL, with the password if there is one; ``unix://`` if there is a Unix socket."""
        password = self._configuration.password
        userinfo = f":{quote(password, safe='')}@" if password else ""
        if self._configuration.unix_socket:
            return f"unix://{userinfo}{self.unix_socket_path}"
        scheme = "redis" if self.tls is None else "rediss"
        return f"{scheme}://{userinfo}{self.host}:{self.port}"

    @property
    def address(self) -> ServerAddress:
        """The address on TCP, for a blocking `Probe`."""
        password = self._configuration.password or ""
        return ServerAddress(host=self.host, port=self.port, password=password, tls=self._tls_context)

    @property
    def flavour(self) -> Flavour:
        """Whether the binary is Redis or Valkey."""
        return self._build[0]

    @property
    def version(self) -> Version:
        """The binary's version: ``(7, 0, 15)``."""
        return self._build[1]

    @cached_property
    def has_tls(self) -> bool:
        """Whether the binary was built with TLS."""
        return supports_tls(self.binary)

    @property
    def log(self) -> str:
        """The server's log so far, over all its starts; the last one's after `stop`."""
        if self._lifeline is None:
            return self._log
        return (self.folder / "server.log").read_text("utf-8", "replace")

    @cached_property
    def _build(self) -> tuple[Flavour, Version]:
        return read_version(self.binary)

    @cached_property
    def _tls_context(self) -> ssl.SSLContext | None:
        if self.tls is None:
            return None
        context = ssl.create_default_context(cafile=self.tls.ca)
        context.check_hostname = False  # a test's certificate may be for any name
        context.load_cert_chain(self.tls.cert, self.tls.key)
        return context

    @property
    def _home(self) -> Lifeline:
        if self._lifeline is None:
            raise RuntimeError(f"{self!r} has no address and no data yet; start() it first")
        return self._lifeline

    def _launch_until_ready(self, deadline: float, *, wait_loaded: bool) -> None:
        may_choose_port = self._port is None and self._given_port is None
        port_deadline = min(deadline, time.monotonic() + _PORT_PATIENCE)
        if self._port is None:
            self._lifeline = Lifeline()
            self._settle_at(self._given_port or _free_port())
        while True:
            process = self._launch()
            try:
                self._wait_until_ready(process, deadline, wait_loaded=wait_loaded)
                return
            except _PortTakenError:
                if may_choose_port:
                    self._settle_at(_free_port())
                elif time.monotonic() > port_deadline:
                    raise self._start_error(f"port {self.port} is taken") from None
                else:
                    time.sleep(0.02)

    def _settle_at(self, port: int) -> None:
        """Write the configuration for this port, once: what CONFIG REWRITE makes of it outlives the process."""
        self._port = port
        text = self._configuration.render(port=port, folder=self.folder)
        (self.folder / "server.conf").write_text(text, "utf-8")

    def _launch(self) -> ServerProcess:
        log = self.folder / "server.log"
        log.touch()
        self._log_start = len(self.log)
        command = [self.binary, self.folder / "server.conf"]
        self._process = ServerProcess(command, log=log, lifeline=self._home)
        return self._process

    def _wait_until_ready(self, process: ServerProcess, deadline: float, *, wait_loaded: bool) -> None:
        address = self.address
        pause = 0.001
        while time.monotonic() < deadline:
            if not process.is_running:
                if "Address already in use" in self.log[self._log_start :]:
                    raise _PortTakenError
                raise self._start_error("it ended")
            if _answers(address, process.pid, wait_loaded=wait_loaded):
                return
            time.sleep(pause)
            pause = min(pause * 2, 0.004)
        raise self._start_error("no answer in time")

    def _start_error(self, problem: str) -> ServerStartError:
        # A line that the server can't read is quoted in its log: with the password, if it is that.
        log = re.sub(r">>> '(\S+).*'", r">>> '\1 ...'", self.log[self._log_start :])
        return ServerStartError(f"{self.binary} didn't start: {problem}; its log:\n{log[-4000:]}")


def _answers(address: ServerAddress, pid: int, *, wait_loaded: bool) -> bool:
    """Find out whether the server with this pid answers, and not another on the same port."""
    try:
        with Probe(address, timeout=1.0) as probe:
            if probe.info("server").get("process_id") != str(pid):
                return False
            probe.call("PING")
    except OSError:
        return False
    except ErrorReply as exc:
        code = str(exc).partition(" ")[0]
        return code in {"NOAUTH", "NOPERM"} or (code == "LOADING" and not wait_loaded)
    return True


def _free_port() -> int:
    """Return a port that is free now and below those that the system gives to outgoing connections.

    A client that connects again and again while a server is down would sooner or later get the
    server's port as its own, and then talk to itself.
    """
    while True:
        port = 10_000 + secrets.randbelow(20_000)
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
            try:
                sock.bind((HOST, port))
            except OSError:
                continue
            return port
