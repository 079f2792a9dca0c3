"""A command is awaited like a future, and is none: compared with a real one on every kind of loop and task."""

import asyncio

import anyio
import pytest

from tests.support.issuing import answer, ask, make_command, result_of, start, turn


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


async def cancelled_and_taken_back_in_the_same_turn(call):
    """Too late: who waits is told already."""
    task = start(call.ask())
    await turn()
    task.cancel()
    task.uncancel()
    return await result_of(task)


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
    cancelled_and_taken_back_in_the_same_turn: CANCELLED,
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
