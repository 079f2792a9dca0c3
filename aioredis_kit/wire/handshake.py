"""What is said at the start of a connection, and what the answers mean.

The handshake is one write: ``HELLO`` with ``AUTH`` and ``SETNAME``, ``SELECT``, ``CLIENT SETINFO``, and a
``PING`` at the end, which tells whether the server serves: ``LOADING`` and ``MASTERDOWN`` mean to ask again
later on the same connection.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import AuthenticationError, ResponseError

from aioredis_kit.exceptions import AuthenticationFailedError, HandshakeError, error_code

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aioredis_kit.credentials import Credentials

NOT_SERVING: Final = frozenset({"LOADING", "MASTERDOWN"})
"""Error codes of a server that will serve later."""
_TELLING: Final = 8
"""So many characters of a password are too many to be shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Introduction:
    """What a new connection is to become.

    Attributes:
        protocol: 2 or 3; ``None`` is 3 if the server knows it, else 2.
        credentials: Who to be, if not the server's default user.
        client_name: The connection's name, if any.
        db: The number of the database.
        client_info: What to report with ``CLIENT SETINFO``: attributes, each with its value.
        version: Of which version of what connections are to be this is: see ``lanes.desired``.
        wants_id: Whether the connection's number at the server has to be known.
        tracking: What follows ``CLIENT TRACKING ON``; ``None``: the server is not asked to announce changes of keys.
    """

    protocol: int | None = None
    credentials: Credentials | None = None
    client_name: str | None = None
    db: int = 0
    client_info: tuple[tuple[str, str], ...] = ()
    version: int = 0
    wants_id: bool = False
    tracking: tuple[str | bytes, ...] | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One command of the handshake.

    Attributes:
        name: What to call it in an error.
        args: The command.
        is_required: Whether the server's refusal ends the handshake.
    """

    name: str
    args: tuple[str | bytes | int, ...] = field(repr=False)
    is_required: bool = True


class Progress(enum.Enum):
    """What the answers to a round of the handshake mean."""

    DONE = "done"
    ASK_NOW = "ask now"
    """The next round is to be sent at once."""
    ASK_LATER = "ask later"
    """The server does not serve yet; the next round is to be sent after a pause."""


class Handshake:
    """One handshake, round by round.

    Attributes:
        protocol: The protocol that is, or was, agreed on.
        client_id: The connection's number at the server, as far as that was told.
        steps: The commands of the present round, to be sent in one write.
        not_serving: The word with which the server said, in the latest round, that it does not serve yet; else empty.
    """

    def __init__(self, introduction: Introduction, *, address: str, is_reset: bool = False) -> None:
        """Begin.

        Args:
            introduction: What the connection is to become.
            address: Where it leads to, as text.
            is_reset: Whether it was used before, so that all that was done to it is undone first.
        """
        self._introduction = introduction
        self._is_reset = is_reset
        self._address = address
        self.protocol = introduction.protocol or 3
        self.client_id: int | None = None
        self.not_serving = ""
        self.steps = self._first_round()

    def receive(self, replies: Sequence[Any]) -> Progress:
        """Take the replies to ``steps``.

        Raises:
            AuthenticationFailedError: The credentials were refused, or are needed and missing.
            HandshakeError: Another required step was refused.
        """
        self.not_serving = ""
        for position, (step, reply) in enumerate(zip(self.steps, replies, strict=True)):
            if not isinstance(reply, Exception):
                self._note_id(step, reply)
                continue
            if not step.is_required:
                continue
            code = error_code(reply)
            if code in NOT_SERVING:
                self.steps = self.steps[position:]
                self.not_serving = code
                return Progress.ASK_LATER
            if step.name == "HELLO" and self.protocol == 3 and self._may_fall_back and _is_unknown(reply):
                self.protocol = 2
                self.steps = self._first_round()
                return Progress.ASK_NOW
            # Any other answer to the PING, a missing right for instance, is a sign of life.
            if step.name != "PING" or isinstance(reply, AuthenticationError):
                raise self._refusal(step, reply)
        return Progress.DONE

    def _note_id(self, step: Step, reply: Any) -> None:
        if step.name == "HELLO" and isinstance(reply, dict):
            self.client_id = reply.get("id")
        elif step.name == "CLIENT ID":
            self.client_id = reply

    def _first_round(self) -> list[Step]:
        wanted = self._introduction
        steps = [Step("RESET", ("RESET",))] if self._is_reset else []
        steps += self._hello() if self.protocol == 3 else self._hello_resp2()
        if wanted.wants_id and self.protocol == 2:
            steps.append(Step("CLIENT ID", ("CLIENT", "ID"), is_required=False))
        if wanted.db:
            steps.append(Step("SELECT", ("SELECT", wanted.db)))
        for attribute, value in wanted.client_info:
            steps.append(Step("CLIENT SETINFO", ("CLIENT", "SETINFO", attribute, value), is_required=False))
        if wanted.tracking is not None:
            steps.append(Step("CLIENT TRACKING", ("CLIENT", "TRACKING", "ON", *wanted.tracking)))
        steps.append(Step("PING", ("PING",)))
        return steps

    def _hello(self) -> list[Step]:
        args: list[str | int] = ["HELLO", 3]
        if (credentials := self._introduction.credentials) is not None:
            args += ["AUTH", credentials.username or "default", credentials.password]
        if self._introduction.client_name:
            args += ["SETNAME", self._introduction.client_name]
        return [Step("HELLO", tuple(args))]

    def _hello_resp2(self) -> list[Step]:
        steps = []
        if (credentials := self._introduction.credentials) is not None:
            user = (credentials.username,) if credentials.username else ()
            steps.append(Step("AUTH", ("AUTH", *user, credentials.password)))
        if self._introduction.client_name:
            steps.append(Step("CLIENT SETNAME", ("CLIENT", "SETNAME", self._introduction.client_name)))
        return steps

    @property
    def _may_fall_back(self) -> bool:
        return self._introduction.protocol is None and self._introduction.tracking is None

    def _refusal(self, step: Step, reply: Exception) -> HandshakeError:
        kind = AuthenticationFailedError if isinstance(reply, AuthenticationError) else HandshakeError
        hint = ""
        if error_code(reply) == "NOAUTH":
            hint = "; the server asks for a password: set password= or credential_provider="
        elif step.name == "CLIENT TRACKING":
            hint = (
                "; client_side_cache and emit_invalidate need it: leave them out, or let the server, its ACL or the "
                "proxy before it allow CLIENT TRACKING"
            )
        elif step.name == "HELLO" and self._introduction.tracking is not None and _is_unknown(reply):
            hint = "; client_side_cache and emit_invalidate need RESP3: leave them out with this server"
        elif step.name == "HELLO" and self._introduction.protocol == 3 and kind is HandshakeError:
            hint = "; protocol=3 was asked for: leave it unset to fall back to RESP2"
        shown = without_credentials(reply, self._introduction.credentials)
        error = kind(
            f"{self._address} refused {step.name}: {shown}{hint}",
            step=step.name,
            address=self._address,
            is_unsupported=step.name == "CLIENT TRACKING" or (step.name == "HELLO" and _is_unknown(reply)),
        )
        error.__cause__ = reply if shown is reply else None
        return error


def _is_unknown(reply: Exception) -> bool:
    """Whether the server knows no such command, or no such version of it."""
    return error_code(reply) == "NOPROTO" or "unknown command" in str(reply).lower()


def without_credentials(reply: Exception, credentials: Credentials | None) -> Exception:
    """Return an error reply, or another one in its place if the server has quoted the credentials in it."""
    text = cut_quoted(str(reply))
    password = "" if credentials is None else credentials.password
    if password and password[:_TELLING] in text:  # a long one may be cut off
        code = error_code(reply).partition(":")[0]
        text = "its reason quotes the credentials" if password[:_TELLING] in code else code
    if text == str(reply):
        return reply
    return AuthenticationError(text) if isinstance(reply, AuthenticationError) else ResponseError(text)


def cut_quoted(text: str) -> str:
    """Return what a server says of a command that it does not know without the arguments, which it quotes."""
    return text.partition(", with args")[0]
