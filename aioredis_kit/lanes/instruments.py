"""What all lanes of an endpoint measure by, and write down to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from aioredis_kit.lanes.watch import LoopWatch
    from aioredis_kit.transport.tally import Tally


@dataclass(frozen=True, slots=True)
class Instruments:
    """The instruments of one endpoint.

    Attributes:
        clock: The client's clock.
        tally: Counts what becomes of commands and connections.
        watch: Watches the event loop.
    """

    clock: Callable[[], float]
    tally: Tally
    watch: LoopWatch
