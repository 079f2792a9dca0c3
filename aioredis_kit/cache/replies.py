"""Raw replies: how large they are, and copies of them.

A reply that can be changed (a list, a dictionary, a set) is copied whenever it is handed out, and so are those in it:
what one caller does to it reaches nobody else. All others can't be changed.
"""

from __future__ import annotations

from sys import getsizeof
from typing import Any, Final

CONTAINERS: Final = frozenset({list, dict, set})
"""The replies that can be changed."""


def copied(reply: Any) -> Any:
    """Return a copy of a reply that shares nothing with it that can be changed."""
    kind = type(reply)
    if kind is list:
        return [copied(each) if type(each) in CONTAINERS else each for each in reply]
    if kind is dict:  # keys can be hashed, so they can't be changed
        return {key: copied(value) if type(value) in CONTAINERS else value for key, value in reply.items()}
    if kind is set:
        return set(reply)
    return reply


def size_of_reply(reply: Any) -> int:
    """Return how much memory a reply takes, in bytes."""
    kind = type(reply)
    size = getsizeof(reply)
    if kind is list or kind is set:
        return size + sum(map(size_of_reply, reply))
    if kind is dict:
        return size + sum(map(size_of_reply, reply)) + sum(map(size_of_reply, reply.values()))
    return size
