"""What every connection to an address is to be: user, database, name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from aioredis_kit.wire.handshake import Introduction

if TYPE_CHECKING:
    from typing import Self

    from aioredis_kit.credentials import Credentials


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """One version of it. A connection that was introduced as an earlier version is not used any more.

    Attributes:
        credentials: Who to be, if that is always the same user and not the server's default one.
        db: The number of the database.
        client_name: The connections' name, if any.
        client_info: What to report with ``CLIENT SETINFO``: attributes, each with its value.
        version: Counts the changes.
    """

    credentials: Credentials | None = None
    db: int = 0
    client_name: str | None = None
    client_info: tuple[tuple[str, str], ...] = ()
    version: int = 0

    def changed(self, **changes: Any) -> Self:
        """Return the next version."""
        return replace(self, version=self.version + 1, **changes)

    def introduction(
        self,
        *,
        protocol: int | None,
        credentials: Credentials | None,
        wants_id: bool = False,
        tracking: tuple[str | bytes, ...] | None = None,
    ) -> Introduction:
        """Return what a connection that is made now is to become.

        Args:
            protocol: Which protocol to speak; ``None``: 3 if the server knows it.
            credentials: Who to be: the same as here, or what a provider gave.
            wants_id: Whether the connection's number at the server has to be known.
            tracking: What follows ``CLIENT TRACKING ON``, if the server is to announce changes of keys.
        """
        return Introduction(
            protocol=protocol,
            credentials=credentials,
            client_name=self.client_name,
            db=self.db,
            client_info=self.client_info,
            version=self.version,
            wants_id=wants_id,
            tracking=tracking,
        )
