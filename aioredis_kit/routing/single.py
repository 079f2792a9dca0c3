"""The topology of one address."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aioredis_kit.exceptions import error_code
from aioredis_kit.policy.retry import NOTHING_DONE

if TYPE_CHECKING:
    from aioredis_kit.lanes.endpoint import Endpoint
    from aioredis_kit.policy.commands import Arguments
    from aioredis_kit.transport.command import Command


class SingleRouter:
    """Sends everything to one endpoint. See ``Router``."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self.lane = endpoint.shared.lane
        self.expect_timeout = endpoint.shared.expect_timeout
        self.statistics = endpoint.statistics
        self.start = endpoint.start
        self.close = endpoint.close
        self.destroy = endpoint.destroy
        self.wait_closed = endpoint.wait_closed

    @property
    def is_ready(self) -> bool:
        """See ``Router``."""
        return self._endpoint.shared.is_ready

    def route(self, args: Arguments) -> Endpoint:  # noqa: ARG002  # one address serves them all
        """See ``Router``."""
        return self._endpoint

    def report(self, command: Command, error: Exception) -> bool:  # noqa: ARG002  # as above
        """See ``Router``."""
        code = error_code(error)
        if code == "READONLY":
            return self._endpoint.leave_replica()
        return code in NOTHING_DONE
