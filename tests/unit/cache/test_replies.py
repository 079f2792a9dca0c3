"""Copies of replies, and their sizes."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioredis_kit.cache.replies import CONTAINERS, copied, size_of_reply

REPLIES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.binary() | st.text(),
    lambda some: st.lists(some) | st.dictionaries(st.binary() | st.text(), some) | st.sets(st.binary()),
    max_leaves=20,
)


def containers(reply):
    """All that can be changed in a reply."""
    if type(reply) in CONTAINERS:
        yield id(reply)
        for each in reply.values() if isinstance(reply, dict) else reply:
            yield from containers(each)


@pytest.mark.pins("case-99")
@given(reply=REPLIES)
def test_a_copy_shares_nothing_that_can_be_changed(reply):
    copy = copied(reply)
    assert copy == reply
    assert type(copy) is type(reply)
    assert not set(containers(copy)) & set(containers(reply))


def test_what_can_not_be_changed_is_not_copied():
    reply = b"x" * 1000
    assert copied(reply) is reply


def test_sizes():
    assert size_of_reply(b"x") == sys.getsizeof(b"x")
    reply = {b"a": [b"b", {b"c"}]}
    assert size_of_reply(reply) == sum(map(sys.getsizeof, (reply, b"a", [b"b", {b"c"}], b"b", {b"c"}, b"c")))
