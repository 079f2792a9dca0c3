"""Where names are looked up: in threads that nobody waits for at the end."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LookUps"]

P = ParamSpec("P")
T = TypeVar("T")


class LookUps(ThreadPoolExecutor):
    """An event loop's executor: each call has a thread of its own, which ends with the process if not before.

    A look-up can't be ended. With a name server that does not answer it takes half a minute; a loop's own executor
    waits for it at the end, so that a command whose time is over would go on for as long.
    """

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Call a function in a thread of its own."""
        outcome: Future[T] = Future()

        def call() -> None:
            if not outcome.set_running_or_notify_cancel():
                return
            try:
                outcome.set_result(fn(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001  # it is whoever waits who is to see it
                outcome.set_exception(error)

        threading.Thread(target=call, name="look-up", daemon=True).start()
        return outcome

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002  # as it is called
        """Wait for nobody."""
