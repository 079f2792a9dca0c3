"""tenacity's wait and stop objects, asked how long to wait after a failure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    from tenacity.stop import StopBaseT
    from tenacity.wait import WaitBaseT

    Backoff: TypeAlias = Callable[[int, Exception, float], float | Literal[False]]
    """Called with the number of failures before the latest one, that one, and the seconds since the first; returns how
    long to wait, in seconds, or ``False`` to stop."""


def tenacity_backoff(wait: WaitBaseT, stop: StopBaseT | None = None) -> Backoff:
    """Return how such objects would go on.

    Args:
        wait: Says how long to wait.
        stop: Says when to stop; never if there is none.
    """
    from tenacity import RetryCallState, Retrying, stop_never  # noqa: PLC0415  # few need it, and it takes 10 ms

    stop = stop or stop_never
    retrying = Retrying(wait=wait, stop=stop)

    def ask(failures: int, cause: Exception, elapsed: float) -> float | Literal[False]:
        state = RetryCallState(retrying, fn=None, args=(), kwargs={})
        state.attempt_number = failures + 1
        state.set_exception((type(cause), cause, cause.__traceback__))
        # Our clock instead of tenacity's: only the difference matters.
        state.start_time, state.outcome_timestamp = 0.0, elapsed
        # In tenacity's order: a stop may look at the sleep that would come next.
        state.upcoming_sleep = wait(state)
        return False if stop(state) else state.upcoming_sleep

    return ask
