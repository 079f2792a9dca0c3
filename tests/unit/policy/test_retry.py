"""Which commands are sent again after a lost reply, and how long to wait after a refusal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioredis_kit.policy.commands import CommandTable
from aioredis_kit.policy.retry import FIRST_DELAY, LONGEST_DELAY, NOTHING_DONE, delay_after_refusal, may_repeat

pins = pytest.mark.pins

READ, REPEATABLE, WRITE = ("GET", "k"), ("SET", "k", "v"), ("INCR", "k")
SCRIPT, UNKNOWN = ("EVALSHA_RO", "sha", 0), ("MYMODULE.GET", "k")


@pins("4.11", "P3")
@pytest.mark.parametrize(
    ("allowed", "repeated"),
    [("never", []), ("read_only", [READ]), ("idempotent", [READ, REPEATABLE])],
)
def test_what_is_sent_again(allowed, repeated):
    table = CommandTable()
    commands = [READ, REPEATABLE, WRITE, SCRIPT, UNKNOWN]
    assert [args for args in commands if may_repeat(args, table.classify(args), allowed)] == repeated


@pins("4.11")
def test_the_arguments_decide_too():
    args = ("SET", "k", "v", "NX")
    assert not may_repeat(args, CommandTable().classify(args), "idempotent")


@pins("4.13")
def test_the_words_of_a_server_that_did_nothing():
    assert {"LOADING", "TRYAGAIN", "CLUSTERDOWN", "MASTERDOWN"} == NOTHING_DONE


@pins("4.13")
def test_the_wait_after_a_refusal_doubles_up_to_half_a_second():
    delays = [delay_after_refusal(attempt) for attempt in range(7)]
    assert delays == [0.025, 0.05, 0.1, 0.2, 0.4, 0.5, 0.5]


@given(st.integers(0) | st.just(10**400))
def test_the_wait_after_a_refusal_is_bounded_for_ever(attempt):
    assert FIRST_DELAY <= delay_after_refusal(attempt) <= LONGEST_DELAY
