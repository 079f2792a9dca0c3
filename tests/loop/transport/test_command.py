"""A command is awaited like a future, and is none: compared with a real one on every kind of loop and task."""

import asyncio
import contextvars
import gc
import math
import sys
import weakref

import anyio
import pytest
import uvloop

from aioredis_kit.options import CommandOptions
from aioredis_kit.transport.command import Command, Query, wake
from aioredis_kit.wire.inflight import ABANDONED, DONE, IN_FLIGHT, UNWRITTEN, WITHDRAWN

pins = pytest.mark.pins

OPTIONS = CommandOptions(timeout=5.0, decode_responses=False, retry_unanswered="never")


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


class Lane:
    def __init__(self):
        self.told = []

    def withdrawn(self, command):
        self.told.append(command)


def make_command(*, is_sent=True):
    command = Command(asyncio.get_running_loop(), ("GET", "k"), b"payload", False, OPTIONS, math.inf)
    command.lane = Lane()
    if is_sent:
        command.state = IN_FLIGHT
        command.written = (0.0, 0)
    return command


async def ask(command):
    """Do what the client does with a command."""
    try:
        await command
    except BaseException:
        command.abandon()
        raise
    if isinstance(command.reply, BaseException):
        raise command.reply
    return command.reply


def answer(*commands):
    """Do what the machine and the protocol do with a reply to each."""
    answered = []
    for command in commands:
        if command.state == IN_FLIGHT:
            command.state = DONE
            command.reply = f"reply to {command.payload.decode()}"
            answered.append(command)
    if answered:
        loop = asyncio.get_running_loop()
        loop.call_soon(wake, loop, answered)


class OverCommand:
    """A call over a command."""

    def __init__(self):
        self.command = make_command()
        self.command.payload = b"value"

    def ask(self):
        return ask(self.command)

    def answer(self):
        answer(self.command)

    def fail(self, error):
        self.command.fail(error)


class OverFuture:
    """The same over a future."""

    def __init__(self):
        self.future = asyncio.get_running_loop().create_future()

    async def ask(self):
        return await self.future

    def answer(self):
        if not self.future.done():
            self.future.set_result("reply to value")

    def fail(self, error):
        if not self.future.done():
            self.future.set_exception(error)


def start(coroutine):
    return asyncio.get_running_loop().create_task(coroutine)


async def turn():
    await asyncio.sleep(0)


async def result_of(task):
    """What came of a task, as something to compare."""
    await asyncio.wait([task])
    if task.cancelled():
        try:
            task.result()
        except asyncio.CancelledError as error:
            return "cancelled", error.args
    error = task.exception()
    return ("raised", type(error), str(error)) if error is not None else ("returned", task.result())


# -- as a future -------------------------------------------------------------------------------------


async def answered(call):
    task = start(call.ask())
    await turn()
    assert not task.done()
    call.answer()
    assert not task.done(), "never from within the reading of the reply"
    await turn()
    assert task.done(), "one turn later"
    return await result_of(task)


async def failed(call):
    task = start(call.ask())
    await turn()
    call.fail(ValueError("why"))
    assert not task.done()
    await turn()
    assert task.done()
    return await result_of(task)


async def failed_twice(call):
    task = start(call.ask())
    await turn()
    call.fail(ValueError("first"))
    call.fail(ValueError("second"))
    await turn()
    call.fail(ValueError("third"))
    return await result_of(task)


async def failed_after_the_answer(call):
    task = start(call.ask())
    await turn()
    call.answer()
    call.fail(ValueError("too late"))
    return await result_of(task)


async def answered_after_it_failed(call):
    task = start(call.ask())
    await turn()
    call.fail(ValueError("first"))
    call.answer()
    return await result_of(task)


async def cancelled(call):
    task = start(call.ask())
    await turn()
    assert task.cancel()
    assert not task.done()
    await turn()
    assert task.done()
    call.answer()
    call.fail(ValueError("too late"))
    return await result_of(task)


async def cancelled_with_a_message(call):
    task = start(call.ask())
    await turn()
    task.cancel("enough")
    return await result_of(task)


async def cancelled_twice(call):
    task = start(call.ask())
    await turn()
    task.cancel()
    task.cancel()
    return *(await result_of(task),), task.cancelling()


async def cancelled_before_it_began(call):
    task = start(call.ask())
    task.cancel()
    return await result_of(task)


async def answered_then_cancelled_in_the_same_turn(call):
    task = start(call.ask())
    await turn()
    call.answer()
    task.cancel()
    return await result_of(task)


async def cancelled_then_answered_in_the_same_turn(call):
    task = start(call.ask())
    await turn()
    task.cancel()
    call.answer()
    return await result_of(task)


async def failed_then_cancelled_in_the_same_turn(call):
    task = start(call.ask())
    await turn()
    call.fail(ValueError("why"))
    task.cancel()
    return await result_of(task)


async def cancelled_then_failed_in_the_same_turn(call):
    task = start(call.ask())
    await turn()
    task.cancel()
    call.fail(ValueError("too late"))
    return await result_of(task)


async def a_cancellation_is_survived(call):
    async def stubborn():
        try:
            await call.ask()
        except asyncio.CancelledError:
            asyncio.current_task().uncancel()
        again = type(call)()
        asyncio.get_running_loop().call_soon(again.answer)
        return await again.ask()

    task = start(stubborn())
    await turn()
    task.cancel()
    return *(await result_of(task),), task.cancelling()


async def a_timeout_that_passes(call):
    async def limited():
        try:
            async with asyncio.timeout(0):
                await call.ask()
        except TimeoutError as error:
            return type(error.__cause__), asyncio.current_task().cancelling()

    return await result_of(start(limited()))


async def a_timeout_that_does_not_pass(call):
    async def limited():
        async with asyncio.timeout(60):
            return await call.ask(), asyncio.current_task().cancelling()

    task = start(limited())
    await turn()
    call.answer()
    return await result_of(task)


async def a_timeout_in_the_turn_of_the_answer(call):
    async def limited():
        async with asyncio.timeout(60) as limit:
            asyncio.get_running_loop().call_soon(lambda: (call.answer(), limit.reschedule(0)))
            return await call.ask()

    return await result_of(start(limited()))


async def a_sibling_in_a_group_fails(call):
    async def fail():
        await turn()
        raise ValueError("sibling")

    async def group():
        async with asyncio.TaskGroup() as group:
            group.create_task(call.ask())
            group.create_task(fail())

    task = start(group())
    await asyncio.wait([task])
    return [str(error) for error in task.exception().exceptions]


async def awaited_through_wait_for(call):
    async def limited():
        return await asyncio.wait_for(call.ask(), 60)

    task = start(limited())
    for _ in range(3):  # Python 3.11 puts a task between
        await turn()
    call.answer()
    return await result_of(task)


async def shielded(call):
    inner = start(call.ask())

    async def outer():
        await asyncio.shield(inner)

    task = start(outer())
    await turn()
    task.cancel()
    first = await result_of(task)
    call.answer()
    return first, await result_of(inner)


async def a_scope_of_anyio_cancelled_from_outside(call):
    scope = anyio.CancelScope()

    async def scoped():
        with scope:
            await call.ask()
        return scope.cancelled_caught, asyncio.current_task().cancelling()

    task = start(scoped())
    await turn()
    scope.cancel()
    return await result_of(task)


async def a_scope_of_anyio_whose_time_is_over(call):
    async def scoped():
        with anyio.move_on_after(0) as scope:
            await call.ask()
        return scope.cancelled_caught, asyncio.current_task().cancelling()

    return await result_of(start(scoped()))


async def a_scope_of_anyio_cancelled_in_the_turn_of_the_failure(call):
    async def scoped():
        with anyio.CancelScope() as scope:
            asyncio.get_running_loop().call_soon(lambda: (scope.cancel(), call.fail(ValueError("too late"))))
            await call.ask()
        return scope.cancelled_caught

    return await result_of(start(scoped()))


async def shielded_by_a_scope_of_anyio(call):
    async def scoped():
        with anyio.CancelScope() as outer:
            with anyio.CancelScope(shield=True):
                outer.cancel()
                reply = await call.ask()
            await anyio.lowlevel.checkpoint()
        return reply, outer.cancelled_caught

    task = start(scoped())
    for _ in range(5):
        await turn()
    call.answer()
    return await result_of(task)


async def a_group_of_anyio_is_cancelled(call):
    async def grouped():
        async with anyio.create_task_group() as group:
            group.start_soon(call.ask)
            await turn()
            group.cancel_scope.cancel()
        return "left"

    return await result_of(start(grouped()))


RETURNED = ("returned", "reply to value")
CANCELLED = ("cancelled", ())

SCENARIOS = {
    answered: RETURNED,
    failed: ("raised", ValueError, "why"),
    failed_twice: ("raised", ValueError, "first"),
    failed_after_the_answer: RETURNED,
    answered_after_it_failed: ("raised", ValueError, "first"),
    cancelled: CANCELLED,
    cancelled_with_a_message: ("cancelled", ("enough",)),
    cancelled_twice: (CANCELLED, 2),
    cancelled_before_it_began: CANCELLED,
    answered_then_cancelled_in_the_same_turn: CANCELLED,
    cancelled_then_answered_in_the_same_turn: CANCELLED,
    failed_then_cancelled_in_the_same_turn: CANCELLED,
    cancelled_then_failed_in_the_same_turn: CANCELLED,
    a_cancellation_is_survived: (RETURNED, 0),
    a_timeout_that_passes: ("returned", (asyncio.CancelledError, 0)),
    a_timeout_that_does_not_pass: ("returned", ("reply to value", 0)),
    a_timeout_in_the_turn_of_the_answer: RETURNED,
    a_sibling_in_a_group_fails: ["sibling"],
    awaited_through_wait_for: RETURNED,
    shielded: (CANCELLED, RETURNED),
    a_scope_of_anyio_cancelled_from_outside: ("returned", (True, 0)),
    a_scope_of_anyio_whose_time_is_over: ("returned", (True, 0)),
    a_scope_of_anyio_cancelled_in_the_turn_of_the_failure: ("returned", True),
    shielded_by_a_scope_of_anyio: ("returned", ("reply to value", True)),
    a_group_of_anyio_is_cancelled: ("returned", "left"),
}


@pytest.mark.parametrize("kind", [OverCommand, OverFuture])
@pytest.mark.parametrize(("scenario", "outcome"), SCENARIOS.items(), ids=[each.__name__ for each in SCENARIOS])
def test_a_command_and_a_future_come_out_alike(run, scenario, outcome, kind):
    async def main():
        return await scenario(kind())

    assert run(main) == outcome


def test_the_very_exception_is_raised(run):
    async def main():
        command, error = make_command(), ValueError("why")
        task = start(ask(command))
        await turn()
        command.fail(error)
        await asyncio.wait([task])
        assert task.exception() is error

    run(main)


def test_what_ended_before_it_is_awaited_is_there_at_once(run):
    async def main():
        command = make_command()
        command.state, command.reply = DONE, "early"
        asked = ask(command)
        with pytest.raises(StopIteration) as stopped:
            asked.send(None)
        assert stopped.value.value == "early"

    run(main)


def test_tasks_go_on_in_the_order_of_the_answers_and_in_their_own_contexts(run):
    variable = contextvars.ContextVar("variable", default="nobody")
    order = []

    async def caller(number, command):
        variable.set(number)
        await ask(command)
        order.append((number, variable.get()))

    async def main():
        commands = [make_command() for _ in range(50)]
        tasks = [start(caller(number, command)) for number, command in enumerate(commands)]
        await turn()
        answer(*commands)
        await turn()
        assert order == [(number, number) for number in range(50)]
        assert variable.get() == "nobody"
        await asyncio.gather(*tasks)

    run(main)


def test_a_task_that_waits_can_be_looked_at(run):
    async def main():
        command = make_command()
        task = start(ask(command))
        await turn()
        assert "ask" in repr(task)
        assert task.get_stack()
        command.fail(ValueError("why"))
        assert await result_of(task) == ("raised", ValueError, "why")

    run(main)


def test_a_caller_may_issue_the_next_command_while_others_are_woken(run):
    async def caller(first, second):
        await ask(first)
        return await ask(second)

    async def main():
        firsts, seconds = [make_command() for _ in range(3)], [make_command() for _ in range(3)]
        tasks = [start(caller(*pair)) for pair in zip(firsts, seconds, strict=True)]
        await turn()
        answer(*firsts)
        await turn()
        answer(*seconds)
        assert await asyncio.gather(*tasks) == ["reply to payload"] * 3

    run(main)


# -- what a future has not ---------------------------------------------------------------------------


@pins("4.7")
@pytest.mark.parametrize("how", ["cancel", "close", "fail"])
def test_a_command_given_up_before_it_was_sent_is_withdrawn(run, how):
    async def main():
        command = make_command(is_sent=False)
        await give_up(command, how)
        assert command.state == WITHDRAWN
        assert command.lane.told == [command]

    run(main)


@pins("4.8")
@pytest.mark.parametrize("how", ["cancel", "close", "fail"])
def test_a_command_given_up_after_it_was_sent_is_abandoned(run, how):
    async def main():
        command = make_command()
        await give_up(command, how)
        assert command.state == ABANDONED
        assert command.lane.told == []

    run(main)


async def give_up(command, how):
    if how == "close":
        asked = ask(command)
        assert asked.send(None) is command
        asked.close()
        return
    task = start(ask(command))
    await turn()
    if how == "cancel":
        task.cancel()
    else:
        command.fail(ValueError("why"))
    await asyncio.wait([task])
    assert task.cancelled() or task.exception()


@pytest.mark.parametrize("state", [WITHDRAWN, ABANDONED, DONE])
def test_what_has_ended_does_not_end_again(run, state):
    async def main():
        command = make_command()
        command.state, command.reply = state, "first"
        command.abandon()
        command.fail(ValueError("second"))
        assert command.cancel() is False
        assert (command.state, command.reply) == (state, "first")
        assert command.lane.told == []

    run(main)


def test_a_coroutine_closed_in_the_turn_of_the_answer_leaves_it_answered(run):
    async def main():
        command = make_command()
        asked = ask(command)
        asked.send(None)
        command.state, command.reply = DONE, "reply"
        asked.close()
        assert command.state == DONE

    run(main)


@pins("P2")
@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_a_task_that_ends_the_program_does_not_starve_the_others(run, kind):
    """Who runs the loop again, as asyncio.run does to cancel what is left, finds their replies given out."""
    tasks = []

    async def caller(number, command):
        reply = await ask(command)
        if number == 1:
            raise kind
        return reply

    async def main():
        commands = [make_command() for _ in range(4)]
        tasks.extend(start(caller(number, command)) for number, command in enumerate(commands))
        await turn()
        answer(*commands)
        await asyncio.wait(tasks)

    async def rest():
        await asyncio.wait(tasks)
        return [type(task.exception()) if task.exception() else task.result() for task in tasks]

    with pytest.raises(kind):
        run(main)
    assert run(rest) == ["reply to payload", kind, "reply to payload", "reply to payload"]


def test_an_answered_command_is_freed_without_the_garbage_collector(run):
    class Argument:
        pass

    async def main():
        argument = Argument()
        freed = weakref.ref(argument)
        command = Command(asyncio.get_running_loop(), (argument,), b"payload", False, OPTIONS)
        command.state = IN_FLIGHT
        task = start(ask(command))
        await turn()
        answer(command)
        await turn()
        assert task.done()
        del argument, command, task
        await turn()
        assert freed() is None

    gc.disable()
    try:
        run(main)
    finally:
        gc.enable()


# -- its facts ---------------------------------------------------------------------------------------


async def test_a_command_is_one_small_object():
    command = make_command()
    assert not hasattr(command, "__dict__")
    assert sys.getsizeof(command) <= 160


async def test_the_deadline():
    loop = asyncio.get_running_loop()
    unlimited = CommandOptions(timeout=None, decode_responses=False, retry_unanswered="never")
    given = Command(loop, ("GET", "k"), b"", False, OPTIONS, 12.5)
    assert given.due == 12.5
    written = Command(loop, ("GET", "k"), b"", False, OPTIONS)
    written.state, written.written = IN_FLIGHT, (100.0, 0)
    assert written.due == 105.0
    for_ever = Command(loop, ("GET", "k"), b"", False, unlimited)
    for_ever.state, for_ever.written = IN_FLIGHT, (100.0, 0)
    assert for_ever.due == math.inf


async def test_the_same_command_once_more():
    first = Command(asyncio.get_running_loop(), ("GET", "k"), b"payload", True, OPTIONS)
    first.state, first.written = DONE, (100.0, 0)
    again = first.again(asyncio.get_running_loop())
    assert again is not first
    assert (again.args, again.payload, again.decode, again.options) == (("GET", "k"), b"payload", True, OPTIONS)
    assert again.due == 105.0
    assert again.state == UNWRITTEN


# -- queries -----------------------------------------------------------------------------------------


def test_a_query_is_answered_to_its_callback_in_an_empty_context(run):
    variable = contextvars.ContextVar("variable", default="nobody")

    async def main():
        told = []
        variable.set("somebody")
        query = Query(b"PING", lambda answered: told.append((answered, variable.get())))
        assert query.decode
        assert query.due == math.inf
        query.state = IN_FLIGHT
        answer(query)
        assert told == []
        await turn()
        assert told == [(query, "nobody")]

    run(main)


def test_a_query_needs_no_callback(run):
    async def main():
        query, command = Query(b"PING"), make_command()
        query.state = IN_FLIGHT
        task = start(ask(command))
        await turn()
        answer(query, command)
        assert await task == "reply to payload"

    run(main)
