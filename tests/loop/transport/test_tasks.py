"""A job runs until it is done: started again when it fails, given up when it keeps failing, never left behind."""

import asyncio
import contextvars
import logging

import anyio
import pytest

from aioredis_kit.transport.tasks import FAILURE_WINDOW, FAILURES, Job, Supervisor

pins = pytest.mark.pins

variable = contextvars.ContextVar("variable", default="nobody")


class Reports:
    """Jobs, and what they reported."""

    def __init__(self):
        self.failed = []
        self.given_up = []

    def job(self, function, *, name="job"):
        return Job(function, name=name, failed=self.failed.append, given_up=self.given_up.append)


@pytest.fixture
def reports():
    return Reports()


@pytest.fixture
async def make_supervisor():
    """A function that makes a supervisor, started; it is stopped with the test."""
    made = []

    def make(cancelled=lambda: None):
        supervisor = Supervisor(name="kit:test", cancelled=cancelled)
        made.append(supervisor)
        supervisor.start()
        return supervisor

    yield make
    for supervisor in made:
        supervisor.stop()
        await supervisor.wait_stopped()


@pytest.fixture
async def supervisor(make_supervisor):
    return make_supervisor()


@pytest.fixture
async def clock(monkeypatch):
    """The loop's clock, which a test may advance."""

    class Clock:
        ahead = 0.0

    loop = asyncio.get_running_loop()
    time = loop.time
    monkeypatch.setattr(loop, "time", lambda: time() + Clock.ahead)
    return Clock


def tasks():
    return {task.get_name(): task for task in asyncio.all_tasks() if task.get_name().startswith("kit:test")}


async def until(condition):
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it did not come true within 1000 turns of the loop")


async def for_ever():
    await asyncio.Event().wait()


# -- a job -------------------------------------------------------------------------------------------


async def test_a_job_runs_once_if_nothing_fails(supervisor, reports):
    runs = []

    async def function():
        runs.append(asyncio.current_task().get_name())

    supervisor.spawn(reports.job(function, name="link"))
    await until(lambda: runs and set(tasks()) == {"kit:test"})
    assert runs == ["kit:test:link"]
    assert reports.failed == reports.given_up == []


async def test_a_job_that_fails_is_reported_and_started_again(supervisor, reports):
    errors = [ValueError("first"), OSError("second")]
    left = list(errors)

    async def function():
        if left:
            raise left.pop(0)

    supervisor.spawn(reports.job(function))
    await until(lambda: set(tasks()) == {"kit:test"})
    assert reports.failed == errors
    assert reports.given_up == []
    assert left == []


async def test_a_job_that_fails_three_times_within_a_second_is_given_up(supervisor, reports):
    runs = []

    async def function():
        runs.append(1)
        raise ValueError(str(len(runs)))

    supervisor.spawn(reports.job(function))
    await until(lambda: set(tasks()) == {"kit:test"})
    assert len(runs) == FAILURES == 3
    assert [str(error) for error in reports.failed] == ["1", "2", "3"]
    assert reports.given_up == [reports.failed[-1]]


async def test_a_job_that_fails_now_and_then_goes_on(supervisor, reports, clock):
    """Any three failures count, not only the first three."""
    runs = []
    pauses = [FAILURE_WINDOW / 2 + 0.01] * 9 + [0.0, 0.0, 0.0]

    async def function():
        clock.ahead += pauses[len(runs)]
        runs.append(1)
        raise ValueError

    supervisor.spawn(reports.job(function))
    await until(lambda: set(tasks()) == {"kit:test"})
    assert len(runs) == 10  # the eighth was half a second before the last two
    assert len(reports.given_up) == 1


async def test_one_job_that_fails_leaves_the_others_alone(supervisor, reports):
    async def function():
        raise ValueError

    other = reports.job(for_ever, name="other")
    supervisor.spawn(other)
    supervisor.spawn(reports.job(function))
    await until(lambda: reports.given_up)
    await asyncio.sleep(0)
    assert "kit:test:other" in tasks()


async def test_a_failure_is_logged_for_who_looks(supervisor, reports, caplog):
    async def function():
        raise ValueError("why")

    with caplog.at_level(logging.DEBUG, logger="aioredis_kit"):
        supervisor.spawn(reports.job(function, name="link"))
        await until(lambda: reports.given_up)
    assert "the job 'link' failed" in caplog.text
    assert {record.levelno for record in caplog.records} == {logging.DEBUG}


async def test_a_job_that_is_cancelled_ends_silently(supervisor, reports):
    job = reports.job(for_ever)
    supervisor.spawn(job)
    await until(lambda: "kit:test:job" in tasks())
    job.cancel()
    await until(lambda: set(tasks()) == {"kit:test"})
    assert reports.failed == reports.given_up == []


async def test_a_job_cancelled_before_it_began_does_not_run(supervisor, reports):
    runs = []

    async def function():
        runs.append(1)

    job = reports.job(function)
    job.cancel()
    supervisor.spawn(job)
    await until(lambda: tasks())
    await asyncio.sleep(0)
    await until(lambda: set(tasks()) == {"kit:test"})
    assert runs == []


async def test_a_job_that_is_cancelled_is_not_started_again(supervisor, reports):
    async def function():
        try:
            await for_ever()
        finally:
            raise ValueError

    job = reports.job(function)
    supervisor.spawn(job)
    await until(lambda: "kit:test:job" in tasks())
    await asyncio.sleep(0)
    job.cancel()
    await until(lambda: set(tasks()) == {"kit:test"})
    assert len(reports.failed) == 1
    assert reports.given_up == []


# -- contexts ----------------------------------------------------------------------------------------


async def test_a_job_sees_nothing_of_its_callers_context(make_supervisor, reports):
    variable.set("the caller")
    seen = []

    async def function():
        seen.append(variable.get())
        variable.set("the job")

    supervisor = make_supervisor()
    supervisor.spawn(reports.job(function))  # before the supervisor's first turn
    await until(lambda: len(seen) == 1)
    supervisor.spawn(reports.job(function))
    await until(lambda: len(seen) == 2)
    assert seen == ["nobody", "nobody"]
    assert variable.get() == "the caller"


async def test_a_job_may_be_given_a_context(make_supervisor, reports):
    """It runs in a copy: two jobs may have the same one."""
    variable.set("the listener")
    context = contextvars.copy_context()
    variable.set("the caller")
    seen = []

    async def function():
        seen.append(variable.get())
        variable.set("the job")
        await asyncio.sleep(0)
        seen.append(variable.get())

    supervisor = make_supervisor()
    supervisor.spawn(reports.job(function), context)
    supervisor.spawn(reports.job(function), context)
    await until(lambda: len(seen) == 4)
    supervisor.spawn(reports.job(function), context)
    await until(lambda: len(seen) == 6)
    context.run(supervisor.spawn, reports.job(function), context)  # by a listener that is called in it
    await until(lambda: len(seen) == 8)
    assert sorted(seen) == ["the job"] * 4 + ["the listener"] * 4
    assert context[variable] == "the listener"


# -- the end -----------------------------------------------------------------------------------------


@pins("P6")
async def test_nothing_runs_when_all_has_stopped(make_supervisor, reports):
    ends = []

    async def function():
        try:
            await for_ever()
        finally:
            with anyio.CancelScope(shield=True):
                for _ in range(5):
                    await asyncio.sleep(0)
            ends.append(1)

    told = []
    supervisor = make_supervisor(lambda: told.append(1))
    for number in range(10):
        supervisor.spawn(reports.job(function, name=str(number)))
    await until(lambda: len(tasks()) == 11)
    await asyncio.sleep(0)
    supervisor.stop()
    await supervisor.wait_stopped()
    assert not tasks()
    assert len(ends) == 10
    assert reports.failed == reports.given_up == []
    assert told == [], "stopping is no cancellation from outside"


@pins("P6")
async def test_stopping_twice_or_too_late_does_no_harm(make_supervisor):
    supervisor = make_supervisor()
    supervisor.stop()
    supervisor.stop()
    await supervisor.wait_stopped()
    supervisor.stop()
    await supervisor.wait_stopped()
    assert not tasks()


async def test_what_never_started_has_stopped():
    supervisor = Supervisor(name="kit:test", cancelled=lambda: None)
    supervisor.stop()
    await supervisor.wait_stopped()


@pins("P6")
async def test_a_job_spawned_before_the_first_turn_and_stopped_is_not_run(make_supervisor, reports):
    runs = []

    async def function():
        runs.append(1)

    supervisor = make_supervisor()
    supervisor.spawn(reports.job(function))
    supervisor.stop()
    await supervisor.wait_stopped()
    assert runs == []


@pins("P6")
async def test_a_job_spawned_and_stopped_in_one_turn_is_not_run(supervisor, reports):
    runs = []

    async def function():
        runs.append(1)

    await until(tasks)
    await asyncio.sleep(0)
    supervisor.spawn(reports.job(function))
    supervisor.stop()
    await supervisor.wait_stopped()
    assert runs == []


@pytest.mark.parametrize("is_over", [False, True])
async def test_a_job_spawned_when_all_is_over_is_not_run(make_supervisor, reports, is_over):
    supervisor = make_supervisor()
    await until(tasks)
    await asyncio.sleep(0)
    supervisor.stop()
    if is_over:
        await supervisor.wait_stopped()
    supervisor.spawn(reports.job(for_ever))
    await supervisor.wait_stopped()
    await asyncio.sleep(0)
    assert not tasks()


@pytest.mark.parametrize("is_first_turn", [True, False])
async def test_a_job_may_stop_all_others_and_goes_on_itself(make_supervisor, reports, is_first_turn):
    steps = []
    supervisor = make_supervisor()

    async def function():
        if not is_first_turn:
            await asyncio.sleep(0)
        supervisor.stop()
        await asyncio.sleep(0)
        steps.append("still there")
        await supervisor.wait_stopped()  # at once: it can't wait for its own end
        steps.append("at its end")

    supervisor.spawn(reports.job(for_ever, name="other"))
    supervisor.spawn(reports.job(function))
    await supervisor.wait_stopped()
    assert steps == ["still there", "at its end"]
    assert not tasks()


async def test_waiting_for_the_end_can_be_cancelled(make_supervisor, reports):
    hold = asyncio.Event()

    async def function():
        with anyio.CancelScope(shield=True):
            await hold.wait()

    supervisor = make_supervisor()
    supervisor.spawn(reports.job(function))
    await until(lambda: "kit:test:job" in tasks())
    await asyncio.sleep(0)
    supervisor.stop()
    waiting = asyncio.get_running_loop().create_task(supervisor.wait_stopped())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert waiting.cancelled()
    assert tasks(), "the jobs end in their own time"
    hold.set()
    await supervisor.wait_stopped()


# -- cancelled from outside --------------------------------------------------------------------------


@pins("P6")
@pytest.mark.parametrize("turns", [0, 5])
async def test_cancelled_from_outside_it_says_so_and_ends(make_supervisor, reports, turns):
    """As by asyncio.run, which cancels what is left at its end."""
    told = []
    supervisor = make_supervisor(lambda: told.append(1))
    supervisor.spawn(reports.job(for_ever))
    for _ in range(turns):
        await asyncio.sleep(0)
    for task in tasks().values():
        task.cancel()
    await supervisor.wait_stopped()
    await until(lambda: told)
    assert told == [1]
    assert not tasks()
    assert reports.failed == reports.given_up == []


@pins("P6")
@pytest.mark.parametrize("turns", [0, 5])
async def test_who_is_told_may_stop_it_and_spawn(make_supervisor, reports, turns):
    """That is what destroying a client does; by then nobody is left to run a job."""
    told = []

    def cancelled():
        supervisor.spawn(reports.job(for_ever, name="end"))
        supervisor.stop()
        told.append(1)

    supervisor = make_supervisor(cancelled)
    for _ in range(turns):
        await asyncio.sleep(0)
    tasks()["kit:test"].cancel()
    await supervisor.wait_stopped()
    await until(lambda: told)
    await asyncio.sleep(0)
    assert told == [1]
    assert not tasks()


async def test_one_job_cancelled_from_outside_ends_alone(make_supervisor, reports):
    told = []
    supervisor = make_supervisor(lambda: told.append(1))
    supervisor.spawn(reports.job(for_ever, name="one"))
    supervisor.spawn(reports.job(for_ever, name="other"))
    await until(lambda: len(tasks()) == 3)
    await asyncio.sleep(0)
    tasks()["kit:test:one"].cancel()
    await until(lambda: "kit:test:one" not in tasks())
    assert set(tasks()) == {"kit:test", "kit:test:other"}
    assert told == []


@pytest.mark.skipif(not hasattr(asyncio, "eager_task_factory"), reason="eager tasks came with Python 3.12")
async def test_eager_tasks_change_nothing(reports):
    loop = asyncio.get_running_loop()
    loop.set_task_factory(asyncio.eager_task_factory)
    try:
        variable.set("the caller")
        seen = []

        async def function():
            seen.append(variable.get())
            await asyncio.sleep(0)
            supervisor.stop()

        supervisor = Supervisor(name="kit:test", cancelled=lambda: seen.append("cancelled"))
        supervisor.start()
        supervisor.spawn(reports.job(for_ever, name="other"))
        supervisor.spawn(reports.job(function))
        await supervisor.wait_stopped()
        assert seen == ["nobody"]
        assert not tasks()
    finally:
        loop.set_task_factory(None)
