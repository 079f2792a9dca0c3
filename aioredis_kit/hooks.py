"""What others are told of a client's commands: hooks, and the calls that they see.

Rules of this file:

1. A hook is told in the task of the caller, before the command is sent and when its call has ended. It has no say: what
   it raises becomes an ``error`` event of the client, and the call goes on.
2. A call holds keys and values, as a hook may be there to see them. Whoever writes some of it down leaves those out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aioredis_kit.statistics import Statistics

    Words: TypeAlias = "tuple[Any, ...]"

__all__ = ["MULTI", "OTHER", "PIPELINE", "Call", "CommandHook", "Origin"]

PIPELINE = "PIPELINE"
"""The operation of a pipeline."""
MULTI = "MULTI"
"""The operation of a transaction."""
OTHER = "_OTHER"
"""The operation of a command that isn't known; what all are called that are more than are told apart."""


class Origin(Protocol):
    """The client that calls come from, with all its views and sessions.

    It doesn't keep the client: whoever has it lets that be forgotten.

    Attributes:
        address: Where its server is, as it may be shown: ``localhost:6379``.
        host: The server's name or IP address, or the path of its Unix socket.
        port: Its port; ``None`` on a Unix socket.
        db: The number of the database.
        client_name: What its connections are named; ``None``: nothing.
        max_connections: How many it may have at once.
        peer: The IP address and port that its first shared connection leads to, or the path of its Unix socket and
            ``None``; ``None``: there is none now.
        is_gone: Whether it was forgotten. Its numbers stay as they were.
    """

    @property
    def address(self) -> str:
        """See above."""
        ...

    @property
    def host(self) -> str:
        """See above."""
        ...

    @property
    def port(self) -> int | None:
        """See above."""
        ...

    @property
    def db(self) -> int:
        """See above."""
        ...

    @property
    def client_name(self) -> str | None:
        """See above."""
        ...

    @property
    def max_connections(self) -> int:
        """See above."""
        ...

    @property
    def peer(self) -> tuple[str, int | None] | None:
        """See above."""
        ...

    @property
    def is_gone(self) -> bool:
        """See above."""
        ...

    def name_of(self, command: Words) -> str:
        """Return a command's name as it may be shown: what ``Call.operation`` is for one command."""
        ...

    def statistics(self) -> Statistics:
        """See ``RedisClient.statistics``. From any thread."""
        ...

    def totals(self) -> Statistics:
        """Return the same, but with counters that go on where the client was opened again. From any thread."""
        ...

    def on(self, event: str, listener: Callable[..., object]) -> None:
        """See ``RedisClient.on``."""


class Call:
    """One call: of a command, or of a whole pipeline or transaction.

    All times are seconds on the client's clock, which is monotonic.

    Attributes:
        origin: The client.
        db: The number of the database; ``None``: it isn't known, as in a session that has sent ``SELECT``.
        operation: The command's name, in capitals and with its sub-command: ``GET``, ``CONFIG GET``; ``PIPELINE`` or
            ``MULTI`` for all that a pipeline or transaction sends together; ``_OTHER`` if it is none that the client
            knows: it may be anything, so it is not to be shown.
        commands: Name and arguments of the command, or of each of the pipeline's, as they were given.
        began: When it was made.
        written: When it was handed to the transport, for the last time if it was sent again; ``None``: it was not, as
            a read that the cache has answered.
        ended: When it had ended; until then ``began``.
        is_blocking: Whether it was a command that may wait for somebody else's doing. Known when it has ended.
        response: What it returned; ``None`` before, and if it failed.
        error: What it raised; ``None`` before, and if it did not fail.
    """

    __slots__ = (
        "began",
        "commands",
        "db",
        "ended",
        "error",
        "is_blocking",
        "operation",
        "origin",
        "response",
        "written",
    )

    def __init__(self, origin: Origin, db: int | None, operation: str, commands: Sequence[Words], began: float) -> None:
        self.origin = origin
        self.db = db
        self.operation = operation
        self.commands = commands
        self.began = self.ended = began
        self.written: float | None = None
        self.is_blocking = False
        self.response: Any = None
        self.error: BaseException | None = None

    @property
    def batch_size(self) -> int | None:
        """How many commands a pipeline or transaction has; ``None``: it is neither."""
        return len(self.commands) if self.operation in (PIPELINE, MULTI) else None

    @property
    def duration(self) -> float:
        """How long it took."""
        return self.ended - self.began

    @property
    def queue_time(self) -> float:
        """How long it took until it was written: for a connection, a lease, the transport's buffer, an earlier try."""
        return (self.ended if self.written is None else self.written) - self.began

    @property
    def server_time(self) -> float:
        """How long it took from then on: on the network, in the server, and behind what had been sent before."""
        return 0.0 if self.written is None else self.ended - self.written

    def __repr__(self) -> str:
        how = "" if self.ended == self.began else f" {self.duration:.6f} s"
        return f"<{type(self).__name__} {self.operation}{how}>"


class CommandHook:
    """Is told of all calls of a client: ``create_client(..., hooks=[hook])``. To be subclassed.

    If no hook wants calls, they are made as if there were none. One hook may be given to several clients. What it does
    is done for every call, while the event loop waits: it is to be quick.
    """

    def attached(self, origin: Origin) -> None:
        """A client was made that has this hook."""

    @property
    def wants_calls(self) -> bool:
        """Whether it is to be told of calls at all: if it has ``before``, ``after`` or ``error``. Asked once."""
        return any(getattr(type(self), name) is not getattr(CommandHook, name) for name in ("before", "after", "error"))

    @property
    def wants_durations(self) -> bool:
        """Whether it is to be counted how long commands take: see ``Statistics.durations``. Asked once."""
        return False

    def wants_this_call(self) -> bool:
        """Return whether it is to be told of the call that is being made.

        It is asked before anything is known of the call, in the context in which that is made. A call that no hook
        wants costs no more than the question.
        """
        return True

    def before(self, call: Call) -> Any:
        """A call begins. What is returned is handed to ``after`` or ``error``."""

    def after(self, call: Call, noted: Any) -> None:
        """A call has returned: see ``call.response``.

        Args:
            call: The call.
            noted: What ``before`` returned.
        """

    def error(self, call: Call, noted: Any) -> None:
        """A call has raised, or was cancelled: see ``call.error``.

        Args:
            call: The call.
            noted: What ``before`` returned.
        """
