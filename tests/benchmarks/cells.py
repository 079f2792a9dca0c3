"""What is measured: the cells that tell the story, and the rest.

A cell is a workload with so many callers on one event loop; every client that can do it runs every round of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB
COMMANDS: Final = ("get", "set", "hgetall", "mixed")
READS: Final = ("hits", "misses", "write-read")
"""With a client-side cache: what is always found, what never is, and what changes all the time."""
HALF: Final = 0.5
_SMALL: Final = 64


@dataclass(frozen=True, slots=True)
class Load:
    """An open loop: commands begin when they are due, whatever became of the ones before.

    Attributes:
        rate: Commands a second.
        share: Instead of a rate: that part of the most that redis-py can do, which is found out first.
        beside_large: Whether one more caller reads values of 10 MB meanwhile, one after the other.
    """

    name: str
    rate: float = 0.0
    share: float = 0.0
    beside_large: bool = False


HALF_LOAD: Final = Load("half-load", share=HALF)
BESIDE_LARGE: Final = Load("beside-large", rate=1000.0, beside_large=True)


@dataclass(frozen=True, slots=True)
class Cell:
    """One workload under one load.

    Attributes:
        callers: How many wait at once, each for its own command. In an open loop nobody knows; clients that lend
            connections get the pool that serves so many best, and no stall makes it grow.
        size: Of the values, in bytes.
        load: None is a closed loop: each caller issues its next command when it has the reply.
    """

    workload: str
    callers: int
    loop: str
    size: int = _SMALL
    tls: bool = False
    load: Load | None = None

    @property
    def name(self) -> str:
        """What `--cells` knows it by."""
        parts = [self.workload, size_name(self.size), str(self.callers), self.loop]
        return "-".join(parts + ["tls"] * self.tls + ([self.load.name] if self.load else []))


def size_name(size: int) -> str:
    """Return a size as people write it, without a space."""
    for unit, name in ((MIB, "MiB"), (KIB, "KiB")):
        if size >= unit:
            return f"{size // unit}{name}"
    return f"{size}B"


STORY: Final = (
    *(Cell("get", callers, loop) for loop, callers in product(("asyncio", "uvloop"), (1, 10, 100, 1000, 5000))),
    Cell("set", 100, "asyncio"),
    Cell("set", 1000, "uvloop"),
    Cell("hgetall", 100, "asyncio"),
    Cell("mixed", 100, "asyncio"),
    Cell("mixed", 1000, "uvloop"),
    *(Cell("get", 100, "asyncio", size) for size in (16 * KIB, 64 * KIB, MIB)),
    Cell("pipeline", 1, "asyncio"),
    Cell("pipeline", 10, "uvloop"),
    Cell("get", 100, "asyncio", tls=True),
    Cell("fan-in", 1, "asyncio"),
    Cell("fan-out", 1, "asyncio"),
    Cell("hits", 1, "asyncio"),
    Cell("get", 1000, "asyncio", load=HALF_LOAD),
    Cell("get", 1000, "asyncio", load=BESIDE_LARGE),
)
"""What a run without flags measures."""


def _rest(loop: str) -> tuple[Cell, ...]:
    return (
        *(Cell(workload, callers, loop) for workload, callers in product(COMMANDS, (1, 10, 100, 1000, 5000))),
        *(
            Cell(workload, callers, loop, size)
            for workload, callers, size in product(("get", "set"), (1, 100), (16 * KIB, 64 * KIB, MIB))
        ),
        *(Cell(workload, callers, loop) for workload, callers in product(("pipeline", "blocking"), (1, 10))),
        *(Cell(workload, 1, loop) for workload in ("fan-in", "fan-out")),
        *(Cell(workload, 100, loop, tls=True) for workload in COMMANDS),
        *(Cell(workload, callers, loop) for workload, callers in product(READS, (1, 100))),
        *(Cell("get", 1000, loop, load=load) for load in (HALF_LOAD, BESIDE_LARGE)),
    )


CELLS: Final = tuple(dict.fromkeys((*STORY, *_rest("asyncio"), *_rest("uvloop"))))
"""All there are, the story first."""
