"""Every kind of loop and task that may wait for a command."""

import asyncio
import gc
import sys

import pytest
import uvloop


def plain_loop():
    return asyncio.new_event_loop()


def debug_loop():
    loop = asyncio.new_event_loop()
    loop.set_debug(True)
    return loop


def loop_of_python_tasks():
    loop = asyncio.new_event_loop()
    loop.set_task_factory(lambda loop, coroutine, **options: asyncio.tasks._PyTask(coroutine, loop=loop, **options))
    return loop


def loop_of_eager_tasks():
    loop = asyncio.new_event_loop()
    loop.set_task_factory(asyncio.eager_task_factory)
    return loop


needs_eager_tasks = pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")


@pytest.fixture(
    params=[
        plain_loop,
        debug_loop,
        loop_of_python_tasks,
        pytest.param(loop_of_eager_tasks, marks=needs_eager_tasks),
        uvloop.new_event_loop,
    ],
    ids=["asyncio", "debug", "python tasks", "eager tasks", "uvloop"],
)
def run(request):
    """Runs a coroutine function on a loop of one kind; nothing may be left on it or stay unhandled."""
    unhandled = []
    with asyncio.Runner(loop_factory=request.param) as runner:
        loop = runner.get_loop()
        loop.set_exception_handler(lambda _, context: unhandled.append(context))
        yield lambda function, *args: runner.run(function(*args))
        assert not asyncio.all_tasks(loop)
        gc.collect(1)  # a task's exception that nobody asked for is told when it is freed
        runner.run(asyncio.sleep(0))
    assert not unhandled
