"""The only place where tasks are made, and their owner.

One supervisor task per client hosts a task group; every job of the client runs in it. A job that fails is
reported and started again; one that keeps failing makes its owner give up. The group itself never sees an
exception, so one job can't cancel another.

Rules of this file:

1. Every job runs in an empty context: a connection made for one caller must not keep that caller's context
   variables alive, or show them to others.
2. When ``wait_stopped`` returns, no job runs any more.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import logging
from collections import deque
from typing import TYPE_CHECKING, Any, Final, TypeVar

import anyio
import anyio.to_thread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from anyio.abc import TaskGroup

T = TypeVar("T")

logger = logging.getLogger(__name__)

FAILURES: Final = 3
"""So many failures of one job …"""
FAILURE_WINDOW: Final = 1.0
"""… within so many seconds mean that starting it again is no use."""


class Job:
    """One coroutine function that is kept running until it returns or is cancelled.

    Attributes:
        name: What to call it in reports.
    """

    def __init__(
        self,
        function: Callable[[], Awaitable[object]],
        *,
        name: str,
        failed: Callable[[Exception], None],
        given_up: Callable[[Exception], None],
    ) -> None:
        self.name = name
        self._function = function
        self._failed = failed
        self._given_up = given_up
        self._failures: deque[float] = deque(maxlen=FAILURES)
        self._scope: anyio.CancelScope | None = None
        self._is_cancelled = False

    def cancel(self) -> None:
        """Cancel it; it ends within the loop's next turns."""
        self._is_cancelled = True
        if self._scope is not None:
            self._scope.cancel()

    async def run(self) -> None:
        """Run the function until it returns; report and repeat where it raises."""
        clock = asyncio.get_running_loop().time
        with anyio.CancelScope() as self._scope:
            while not self._is_cancelled:
                try:
                    await self._function()
                    return
                except Exception as error:  # the one place where a job's failure ends up
                    self._failures.append(clock())
                    logger.debug("the job %r failed", self.name, exc_info=error)
                    self._failed(error)
                    if self._fails_steadily():
                        self._given_up(error)
                        return

    def _fails_steadily(self) -> bool:
        if len(self._failures) < FAILURES:
            return False
        return self._failures[-1] - self._failures[0] < FAILURE_WINDOW


class Supervisor:
    """Owns the tasks of one client.

    Lifecycle: ``start`` once, ``stop`` from anywhere on its loop, then ``wait_stopped``.

    Args:
        name: The name of its task, and the beginning of the names of its jobs' tasks.
        cancelled: Called when somebody else cancels its task.
    """

    def __init__(self, *, name: str, cancelled: Callable[[], None]) -> None:
        self._name = name
        self._cancelled = cancelled
        self._task: asyncio.Task[None] | None = None
        self._group: TaskGroup | None = None
        self._early: list[tuple[Job, contextvars.Context]] = []  # spawned before its task's first turn
        self._running: dict[Job, asyncio.Task[object] | None] = {}
        self._unstarted: dict[Job, Coroutine[Any, Any, None]] = {}
        self._stopped = asyncio.Event()

    def start(self) -> None:
        """Start the supervisor's task on the running loop."""
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(self._host(), name=self._name, context=contextvars.Context())
        self._task.add_done_callback(self._ended)

    def spawn(self, job: Job, context: contextvars.Context | None = None) -> bool:
        """Run a job until it ends or the supervisor stops; tell whether it hasn't stopped already.

        Args:
            job: The job.
            context: What it runs in a copy of; an empty one if not given.
        """
        if self._stopped.is_set() or self._task is None or self._task.done():
            return False
        context = contextvars.Context() if context is None else context.copy()
        if self._group is None:
            self._early.append((job, context))
        else:
            name = f"{self._name}:{job.name}"
            _ = context.run(functools.partial(self._group.start_soon, self._make, job, name=name))
        return True

    def stop(self) -> None:
        """Cancel all jobs but the one that calls this, and end with the last of them. Idempotent."""
        self._stopped.set()
        own = _current_task()
        for job, task in self._running.items():
            if task is None or task is not own:
                job.cancel()

    async def wait_stopped(self) -> None:
        """Wait until all jobs have ended.

        Called from one of the jobs it returns at once, since that job can't wait for its own end.

        Cancellation:
            Safe. The jobs end all the same.
        """
        if self._task is not None and asyncio.current_task() not in self._running.values():
            await asyncio.wait((self._task,))

    def _make(self, job: Job) -> Coroutine[Any, Any, None]:
        self._unstarted[job] = coroutine = self._run(job)
        return coroutine

    async def _run(self, job: Job) -> None:
        del self._unstarted[job]
        self._running[job] = asyncio.current_task()
        try:
            if not self._stopped.is_set():
                await job.run()
        finally:
            del self._running[job]

    async def _host(self) -> None:
        async with anyio.create_task_group() as self._group:
            for job, context in self._early:
                self.spawn(job, context)
            self._early.clear()
            await self._stopped.wait()

    def _ended(self, _: asyncio.Task[None]) -> None:
        for coroutine in self._unstarted.values():  # cancelled before their first turn
            coroutine.close()
        if not self._stopped.is_set():
            self._cancelled()


async def foreign(call: Callable[[], Any]) -> Any:
    """Call code that isn't ours and await what it returns, if that can be awaited.

    Raises:
        RuntimeError: It raised ``CancelledError`` although nobody cancelled this task: something of its own was.
        BaseException: Whatever else it raised.

    Cancellation:
        Passed on.
    """
    try:
        result = call()
        return await result if inspect.isawaitable(result) else result
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise RuntimeError("something that it awaited was cancelled") from error


async def in_thread(call: Callable[[], T]) -> T:
    """Call something that blocks, in a worker thread.

    Not in one of those that are shared by default: all of them may be in use by those who wait for what this is for.

    Raises:
        BaseException: Whatever it raised.

    Cancellation:
        Not waited for: the thread goes on, and what comes of it is dropped.
    """
    # Not by way of the future's result: asyncio shows that in its log where it is slow, and in debug mode.
    answers: list[T] = []
    limiter = anyio.CapacityLimiter(1)
    await anyio.to_thread.run_sync(lambda: answers.append(call()), abandon_on_cancel=True, limiter=limiter)
    return answers.pop()


def _current_task() -> asyncio.Task[object] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # called from no loop at all
        return None
