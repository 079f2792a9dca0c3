"""Who is told of clients that are made, and of those that were left open: the guard of the test kit, while a test runs.

Nobody else. Outside of tests there is no witness, and a client that is made costs one comparison with ``None``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from aioredis_kit.client.base import ClientCore

__all__ = ["Witness"]


class Witness(Protocol):
    """Is told, from whatever thread that happens in."""

    def made(self, core: ClientCore) -> None:
        """A client is being made; it is not open yet."""

    def owned(self, core: ClientCore) -> None:
        """A client that was just made is closed by somebody who is going to: an entered registry."""

    def left_open(self, core: ClientCore) -> None:
        """A client that was open ends because its loop does, or because nobody refers to it: it was not closed."""


present: Witness | None = None
