"""``single_connection_client=True``: the session that takes all commands of a client.

To its user it is the client: it gives its connection back when the client is closed, after the replies that are due,
and goes on on another one when the client is opened again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aioredis_kit.client.session import Session, SessionCore

if TYPE_CHECKING:
    from aioredis_kit.exceptions import KitError
    from aioredis_kit.lanes.dedicated import Lease
    from aioredis_kit.lanes.endpoint import Endpoint


class SingleConnectionCore(SessionCore):
    """Issues commands on one lease, until the client is closed."""

    def _take(self, endpoint: Endpoint, lease: Lease) -> None:
        super()._take(endpoint, lease)
        lease.on_closing = lambda refusal: self._client_closing(lease, refusal)

    def _client_closing(self, lease: Lease, refusal: KitError) -> None:
        if lease is self.lease:
            self.loop = None
            lease.queue.close(refusal).add_done_callback(lambda _: self._give_back())


class SingleConnection(Session):
    """Takes all commands of a client."""

    _core_kind: type[SessionCore] = SingleConnectionCore

    async def close(self, close_connection_pool: bool | None = None) -> None:  # noqa: FBT001  # as redis-py
        """Close the client: what ``QUIT`` does.

        Args:
            close_connection_pool: redis-py's argument; without effect.

        Cancellation:
            Closing becomes destroying.
        """
        del close_connection_pool
        await self._core.client.close(is_final=True)
