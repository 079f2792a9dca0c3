"""Calls that subscribe wait for all of their topics, and for nothing else."""

import asyncio

import pytest
from redis.exceptions import NoPermissionError

from aioredis_kit.exceptions import ClientClosedError
from aioredis_kit.lanes.waits import Wait, Waits
from aioredis_kit.policy.subscriptions import Kind, Request

X, Y, P = (Kind.CHANNEL, b"x"), (Kind.CHANNEL, b"y"), (Kind.PATTERN, b"x")


@pytest.fixture
def make():
    """A function that lets a consumer wait for topics."""
    waits = Waits()

    def make(consumer, *topics):
        wait = Wait(consumer, topics, asyncio.get_running_loop().create_future())
        waits.add(wait)
        return wait

    make.waits = waits
    return make


async def test_all_topics_have_to_be_subscribed(make):
    both, one, none = make("a", X, Y), make("b", X), make("c")
    assert none.done.done()
    make.waits.subscribed(X)
    make.waits.subscribed(P)
    assert [wait.done.done() for wait in (both, one)] == [False, True]
    make.waits.subscribed(Y)
    assert both.done.done()
    assert not make.waits


async def test_what_is_not_wanted_any_more_is_not_waited_for(make):
    mine, other = make("a", X, Y), make("b", X)
    make.waits.unwanted(X, "a")
    make.waits.subscribed(Y)
    assert [wait.done.done() for wait in (mine, other)] == [True, False]


async def test_a_refusal_fails_those_who_wait_for_it_each_with_an_error_of_its_own(make):
    both, one, other = make("a", X, Y), make("b", X), make("c", Y)
    refusal = NoPermissionError("no")
    assert make.waits.refused(Request(Kind.CHANNEL, True, (b"x",)), refusal)
    errors = [wait.done.exception() for wait in (both, one)]
    assert [str(error) for error in errors] == ["no", "no"]
    assert len({id(error) for error in (*errors, refusal)}) == 3
    assert not make.waits.refused(Request(Kind.CHANNEL, True, (b"x",)), refusal)
    make.waits.subscribed(Y)
    assert other.done.done()


async def test_those_who_left_are_told_nothing(make):
    wait = make("a", X)
    make.waits.remove(wait)
    make.waits.subscribed(X)
    assert not wait.done.done()
    assert not make.waits


async def test_the_end(make):
    waits = [make("a", X, Y), make("b", X), make("c", X)]
    waits[2].done.cancel()
    make.waits.end(ClientClosedError("closed"))
    assert [str(wait.done.exception()) for wait in waits[:2]] == ["closed"] * 2
    assert not make.waits
