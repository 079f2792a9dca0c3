"""The configuration file of a server for tests, as a pure function of its options."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Configuration", "Persistence", "TLSFiles", "configuration_lines"]

HOST = "127.0.0.1"

Persistence = Literal["none", "aof", "aof-everysec", "rdb"]

_PERSISTENCE_LINES: dict[Persistence, tuple[str, ...]] = {
    "none": ('save ""',),
    "aof": ('save ""', "appendonly yes", "appendfsync always"),
    "aof-everysec": ('save ""', "appendonly yes", "appendfsync everysec"),
    "rdb": ("save 3600 1",),
}


@dataclass(frozen=True, slots=True)
class TLSFiles:
    """What a TLS server needs, as PEM files.

    Attributes:
        cert: The server's certificate.
        key: Its private key.
        ca: The authority that signed the certificate (and clients', if they must have one).
    """

    cert: Path
    key: Path
    ca: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """How a server is to be, apart from where.

    Raises:
        ValueError: *persistence* isn't one of the four.
    """

    password: str | None = field(repr=False)
    persistence: Persistence
    unix_socket: bool
    tls: TLSFiles | None
    extra_lines: tuple[str, ...] = field(repr=False)  # users' passwords, most of all

    def __post_init__(self) -> None:
        if self.persistence not in get_args(Persistence):
            raise ValueError(f"persistence must be one of {get_args(Persistence)}")

    def unix_socket_path(self, folder: Path) -> Path | None:
        """Return where the Unix socket is, if there is to be one."""
        return folder / "redis.sock" if self.unix_socket else None

    def render(self, *, port: int, folder: Path) -> str:
        """Return the file's text for a server on *port* with its data in *folder*.

        Of two lines for one option the servers take the later: the extra lines win.
        """
        lines = [
            f"bind {HOST}",
            f"dir {_quoted(folder)}",
            "hz 100",  # SIGTERM is seen by the periodic job, at the default 10 up to 100 ms later
            *_PERSISTENCE_LINES[self.persistence],
        ]
        if self.password:
            lines.append(f"requirepass {_quoted(self.password)}")
        if self.unix_socket:
            lines.append(f"unixsocket {_quoted(self.unix_socket_path(folder))}")
        if self.tls is None:
            lines.append(f"port {port}")
        else:
            lines += [
                "port 0",
                f"tls-port {port}",
                f"tls-cert-file {_quoted(self.tls.cert)}",
                f"tls-key-file {_quoted(self.tls.key)}",
                f"tls-ca-cert-file {_quoted(self.tls.ca)}",
                "tls-auth-clients no",
            ]
        return "\n".join([*lines, *self.extra_lines, ""])


def configuration_lines(option: str, given: Mapping[str, object] | Iterable[str]) -> tuple[str, ...]:
    """Return what a user gave for *option* as lines.

    Raises:
        ValueError: It is a single string, or a line contains a line break.
    """
    if isinstance(given, str):
        raise ValueError(f"{option} must be a list of lines, got one string")  # noqa: TRY004 -- as its siblings
    lines = (f"{name} {value}" for name, value in given.items()) if isinstance(given, Mapping) else given
    checked = tuple(lines)
    if any("\n" in line for line in checked):
        raise ValueError(f"a line of {option} contains a line break; give one item per line")
    return checked


def _quoted(value: object) -> str:
    """Quote a value as the servers' parser reads it."""
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
