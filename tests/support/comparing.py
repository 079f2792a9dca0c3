"""Make the same calls on redis-py's client and on ours, and compare what comes back."""

from __future__ import annotations

import inspect
import itertools
import warnings

import pytest
import redis.asyncio

from aioredis_kit import create_client

COMBINATIONS = [
    pytest.param(
        {**protocol, "legacy_responses": legacy, "decode_responses": decode},
        marks=() if legacy and protocol.get("protocol") != (3 if decode else 2) else pytest.mark.only_long,
    )
    for protocol, legacy, decode in itertools.product(
        ({}, {"protocol": 2}, {"protocol": 3}), (True, False), (False, True)
    )
]
"""Of the options that decide on the shapes of responses. Most of them are left to the long form."""

_NUMBERS = frozenset({int, float})
_TIMES = frozenset({"duration"})
"""Attributes that differ each time."""


def name_of(options):
    """Return a test's name for a combination."""
    return "-".join(map(str, options.values()))


async def make(call, client):
    """Make a call, wait for what it returns, and return that with its types, or the exception and its text."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of deprecated and experimental methods
        try:
            result = call(client)
            if inspect.isasyncgen(result):
                result = [each async for each in result]
            elif inspect.isawaitable(result):
                result = await result
        except Exception as error:  # noqa: BLE001  # it is the result
            return type(error), str(error)
    return typed(result)


def typed(value):
    """Return a value with the types of all its parts: True is not 1 here."""
    if isinstance(value, dict):
        return type(value), [(typed(key), typed(each)) for key, each in value.items()]
    if isinstance(value, set | frozenset):
        return type(value), sorted(map(repr, value))
    if isinstance(value, list | tuple):
        return type(value), [typed(each) for each in value]
    if type(value).__module__.startswith("redis.commands."):  # documents, results, information
        kept = {name: each for name, each in vars(value).items() if name not in _TIMES}
        return type(value), typed(kept)[1]
    return type(value), repr(value)


def shape(result):
    """Return what is the same of an unstable result each time: the types, and the keys of mappings."""
    kind, content = result
    if issubclass(kind, dict):
        return kind, sorted((repr(key), shape(each)) for key, each in content)
    if isinstance(content, list):
        return kind, sorted({repr(shape(each)) for each in content}) if kind in {list, tuple} else len(content)
    return float if kind in _NUMBERS else kind


async def both(redis_url, options, calls, prepare=None, ours=create_client):
    """Make calls on redis-py's client and on ours, each time on the same empty database; return both's results."""
    results = []
    for connect in (redis.asyncio.Redis.from_url, ours):
        async with connect(redis_url, **options) as client:
            await client.flushdb()
            if prepare is not None:
                await prepare(client)
            results.append([await make(call, client) for call in calls])
    return results


def assert_same(theirs, ours, calls):
    """Compare call by call, and name the call that differs."""
    for call, their, our in zip(calls, theirs, ours, strict=True):
        assert our == their, inspect.getsource(call)


def in_pipeline(call, make_pipeline):
    """Return a call that makes another one in a pipeline of its own."""

    async def run(client):
        async with make_pipeline(client) as pipe:
            noted = call(pipe)
            if inspect.isasyncgen(noted):
                return [each async for each in noted]
            if inspect.iscoroutine(noted):
                await noted
            return await pipe.execute()

    return run


class Names:
    """Stands for a client, and notes which methods are called."""

    def __init__(self, called=None):
        self.called = set() if called is None else called

    def __getattr__(self, name):
        self.called.add(name)
        return lambda *args, **kwargs: self


def methods_of(kind):
    """Return the names of all public methods and properties of a class."""
    return {
        name
        for each in kind.__mro__[:-1]
        for name, member in vars(each).items()
        if not name.startswith("_")
        and (callable(member) or isinstance(member, classmethod | property))
        and not isinstance(member, staticmethod)
    }
