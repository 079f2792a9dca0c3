"""What a pipeline writes, in how many units, and what the replies to a ``MULTI`` block mean.

Errors are those of redis-py: a command that is refused inside a block is a result of the block, unless the whole block
was refused because of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redis.exceptions import ExecAbortError, ResponseError, WatchError

from aioredis_kit.wire.encoder import size_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from aioredis_kit.wire.encoder import Payload


def split(
    payloads: Sequence[Payload], *, most_commands: int, most_bytes: int, alone: Collection[int] = ()
) -> Iterator[slice]:
    """Yield which commands go into one unit, for all units of a pipeline.

    A pipeline that a queue can hold is one unit. One that is longer is let in alone, in parts that it can hold.

    Args:
        payloads: The encoded commands.
        most_commands: How many commands a queue holds.
        most_bytes: How many bytes it holds.
        alone: The places of commands that are units of their own.
    """
    start = size = 0
    for index, payload in enumerate(payloads):
        own = size_of(payload)
        is_full = index - start >= most_commands or size + own > most_bytes
        if index > start and (is_full or index in alone or index - 1 in alone):
            yield slice(start, index)
            start, size = index, 0
        size += own
    yield slice(start, len(payloads))


def refusal_of_all(replies: Sequence[Any], *, is_block: bool) -> Exception | None:
    """Return the first refusal, if none of the commands was executed."""
    if isinstance(replies[-1], Exception) if is_block else all(isinstance(reply, Exception) for reply in replies):
        return next(reply for reply in replies if isinstance(reply, Exception))
    return None


def results_of_block(replies: Sequence[Any], left_out: dict[int, Any], count: int) -> tuple[list[Any], set[int]]:
    """Return the raw results of a ``MULTI`` block, and at which places commands were refused when they were queued.

    Args:
        replies: The replies to ``MULTI``, to each command that was sent, and to ``EXEC``.
        left_out: The results of commands that were not sent, by their places.
        count: How many commands there are, with those that were not sent.

    Raises:
        WatchError: A watched key was changed.
        ExecAbortError: The block was refused, for no reason that a command had told.
        ResponseError: The first refusal, because of which the block was refused; or a result is missing.
    """
    multi, *queued, outcome = replies
    sent = [place for place in range(count) if place not in left_out]
    refused = {place: reply for place, reply in zip(sent, queued, strict=True) if isinstance(reply, ResponseError)}
    if isinstance(outcome, ExecAbortError):
        first = multi if isinstance(multi, Exception) else next(iter(refused.values()), None)
        if first is not None:
            raise first from outcome
        raise outcome
    if isinstance(outcome, Exception):
        raise outcome
    if outcome is None:
        raise WatchError("Watched variable changed.")
    results = list(outcome)
    for place, result in sorted((left_out | refused).items()):
        results.insert(place, result)
    if len(results) != count:
        raise ResponseError("Wrong number of response items from pipeline execution")
    return results, set(refused)
