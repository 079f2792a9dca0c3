"""Consumers that wait until their topics are subscribed."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Generic, TypeVar

from aioredis_kit.exceptions import one_for_each

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable

    from aioredis_kit.exceptions import KitError
    from aioredis_kit.policy.subscriptions import Kind, Request

ConsumerT = TypeVar("ConsumerT")


class Wait(Generic[ConsumerT]):
    """One call that subscribes.

    Attributes:
        consumer: Whose.
        topics: What it still waits for.
        done: Done when that is nothing.
    """

    def __init__(self, consumer: ConsumerT, topics: Iterable[tuple[Kind, bytes]], done: asyncio.Future[None]) -> None:
        self.consumer = consumer
        self.topics = dict.fromkeys(topics)
        self.done = done
        self.end_if_ready()

    def end_if_ready(self) -> None:
        """Let it go on if nothing is left to wait for."""
        if not self.topics and not self.done.done():
            self.done.set_result(None)

    def fail(self, error: Exception) -> None:
        """Let it go on with an error, unless it has ended."""
        if not self.done.done():
            self.done.set_exception(error)


class Waits(Generic[ConsumerT]):
    """All calls that subscribe on one lane."""

    def __init__(self) -> None:
        self._by_topic: dict[tuple[Kind, bytes], list[Wait[ConsumerT]]] = {}

    def __bool__(self) -> bool:
        return bool(self._by_topic)

    def add(self, wait: Wait[ConsumerT]) -> None:
        """Let one wait for its topics."""
        for topic in wait.topics:
            self._by_topic.setdefault(topic, []).append(wait)

    def remove(self, wait: Wait[ConsumerT]) -> None:
        """Let one wait for nothing any more."""
        for topic in list(wait.topics):
            self._forget(topic, wait)

    def subscribed(self, topic: tuple[Kind, bytes]) -> None:
        """Note that a topic is subscribed."""
        for wait in self._by_topic.get(topic, ())[:]:
            self._forget(topic, wait)
            wait.end_if_ready()

    def unwanted(self, topic: tuple[Kind, bytes], consumer: ConsumerT) -> None:
        """Note that a consumer wants a topic no longer: it is not waited for either."""
        for wait in self._by_topic.get(topic, ())[:]:
            if wait.consumer is consumer:
                self._forget(topic, wait)
                wait.end_if_ready()

    def refused(self, request: Request, refusal: Exception) -> bool:
        """Let those fail who wait for the topics of a request; tell whether there are any."""
        topics = [(request.kind, name) for name in request.names]
        waits = {wait: None for topic in topics for wait in self._by_topic.get(topic, ())}
        for wait in waits:
            self.remove(wait)
            wait.fail(copy.copy(refusal))
        return bool(waits)

    def end(self, error: KitError) -> None:
        """Let all fail."""
        waits = {wait: None for group in self._by_topic.values() for wait in group}
        self._by_topic.clear()
        for wait in waits:
            wait.fail(one_for_each(error))

    def _forget(self, topic: tuple[Kind, bytes], wait: Wait[ConsumerT]) -> None:
        wait.topics.pop(topic, None)
        waits = self._by_topic.get(topic)
        if waits is not None and wait in waits:
            waits.remove(wait)
            if not waits:
                del self._by_topic[topic]
