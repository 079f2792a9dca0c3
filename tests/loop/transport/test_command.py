"""What a command has that a future has not: it can be withdrawn or abandoned, and is woken with others."""

import asyncio
import contextvars
import gc
import math
import sys
import weakref

import pytest

from aioredis_kit.options import CommandOptions
from aioredis_kit.transport.command import Query, new_command
from aioredis_kit.wire.inflight import ABANDONED, DONE, IN_FLIGHT, UNWRITTEN, WITHDRAWN
from tests.support.issuing import OPTIONS, answer, ask, make_command, result_of, start, turn

pins = pytest.mark.pins


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


@pytest.mark.parametrize("how", ["fail", "cancel"])
def test_a_task_goes_on_in_its_own_context_when_its_command_fails(run, how):
    variable = contextvars.ContextVar("variable", default="nobody")
    seen = []

    async def caller(command):
        variable.set("the caller")
        try:
            await ask(command)
        except (ValueError, asyncio.CancelledError):
            seen.append(variable.get())

    async def main():
        variable.set("who ends it")
        command = make_command()
        task = start(caller(command))
        await turn()
        if how == "fail":
            command.fail(ValueError("why"))
        else:
            task.cancel()
        await asyncio.wait([task])
        assert seen == ["the caller"]

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


# -- giving up -------------------------------------------------------------------------------------


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


@pins("P5")
@pytest.mark.parametrize("is_sent", [False, True])
def test_a_command_given_up_keeps_nothing_of_its_caller_alive(run, is_sent):
    """It may stay in a queue for long."""
    freed = []

    async def caller(command):
        local = Local()
        freed.append(weakref.ref(local))
        await ask(command)

    async def main():
        command = make_command(is_sent=is_sent)
        task = start(caller(command))
        await turn()
        task.cancel()
        await asyncio.wait([task])
        command.reply = None  # the exception, with its traceback, is for the client to forget
        del task
        await turn()
        gc.collect()
        assert freed[0]() is None

    run(main)


class Local:
    """Something of a caller's."""


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
        command = new_command(asyncio.get_running_loop(), (argument,), b"payload", decode=False, options=OPTIONS)
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
    given = new_command(loop, ("GET", "k"), b"", decode=False, options=OPTIONS, deadline=12.5)
    assert given.due == 12.5
    written = new_command(loop, ("GET", "k"), b"", decode=False, options=OPTIONS)
    written.state, written.written = IN_FLIGHT, (100.0, 0)
    assert written.due == 105.0
    for_ever = new_command(loop, ("GET", "k"), b"", decode=False, options=unlimited)
    for_ever.state, for_ever.written = IN_FLIGHT, (100.0, 0)
    assert for_ever.due == math.inf


async def test_the_same_command_once_more():
    first = new_command(asyncio.get_running_loop(), ("GET", "k"), b"payload", decode=True, options=OPTIONS)
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
