"""What the next user of a session's connection would notice, and when the client's own commands would disturb."""

import pytest

from aioredis_kit.policy.commands import CommandTable
from aioredis_kit.policy.session import SessionState

pins = pytest.mark.pins
TABLE = CommandTable()


def traits(words):
    return TABLE.classify(tuple(words.split()))


def after(*commands):
    """The state after commands, each answered; one that begins with ``?`` is still out, with ``!`` was refused."""
    state = SessionState()
    for command in commands:
        words = command.lstrip("?!")
        state.issued(traits(words))
        if not command.startswith("?"):
            state.answered(traits(words), is_refused=command.startswith("!"))
    return state


@pins("case-92")
@pytest.mark.parametrize(
    "commands",
    [
        [],
        ["GET k", "SET k v", "EVAL script 0", "NOSUCH x"],
        ["BLPOP k 0", "XREAD BLOCK 0 STREAMS s $", "XREAD STREAMS s 0"],
        ["WAIT 1 0", "WAITAOF 1 0 0"],
        ["MULTI", "SET k v", "EXEC"],
        ["MULTI", "DISCARD"],
        ["WATCH k", "GET k", "UNWATCH"],
        ["WATCH k", "MULTI", "GET k", "EXEC"],
        ["WATCH k", "MULTI", "DISCARD"],
        ["UNWATCH"],
        ["?GET k"],
        ["?BLPOP k 0"],
    ],
    ids=", ".join,
)
def test_what_leaves_nothing_behind(commands):
    assert not after(*commands).is_dirty


@pins("case-92")
@pytest.mark.parametrize(
    "commands",
    [
        ["SELECT 1"],
        ["AUTH s3cret"],
        ["HELLO 2"],
        ["RESET"],
        ["CLIENT SETNAME me"],
        ["CLIENT SETINFO LIB-NAME x"],
        ["CLIENT TRACKING ON"],
        ["CLIENT CACHING YES"],
        ["CLIENT NO-EVICT ON"],
        ["CLIENT NO-TOUCH ON"],
        ["READONLY"],
        ["READWRITE"],
        ["ASKING"],
        ["SCRIPT DEBUG YES"],
        ["HIMPORT PREPARE"],
        ["MULTI"],
        ["MULTI", "SET k v"],
        ["WATCH k"],
        ["WATCH k", "MULTI", "?EXEC"],
        ["MULTI", "?EXEC"],
        ["MULTI", "?DISCARD"],
        ["WATCH k", "?UNWATCH"],
        ["SELECT 1", "MULTI", "EXEC"],
        ["SELECT 1", "RESET"],
        ["?SELECT 1"],
        ["!SELECT 1"],
        ["MULTI", "!EXEC"],
        ["MULTI", "!DISCARD"],
        ["WATCH k", "!UNWATCH"],
    ],
    ids=", ".join,
)
def test_what_leaves_something_behind(commands):
    assert after(*commands).is_dirty


@pins("P1")
@pytest.mark.parametrize(
    ("commands", "is_in_transaction"),
    [
        (["GET k"], False),
        (["WATCH k"], False),
        (["?MULTI"], True),
        (["MULTI"], True),
        (["MULTI", "SET k v", "SELECT 1"], True),
        (["MULTI", "?EXEC"], True),
        (["MULTI", "EXEC"], False),
        (["MULTI", "DISCARD"], False),
        (["MULTI", "RESET"], False),
        (["MULTI", "EXEC", "MULTI"], True),
    ],
    ids=str,
)
def test_between_multi_and_the_answer_to_its_end(commands, is_in_transaction):
    assert after(*commands).is_in_transaction is is_in_transaction


def test_who_watches():
    assert after("?WATCH k").is_watching
    assert after("WATCH k", "?EXEC").is_watching
    assert not after("WATCH k", "EXEC").is_watching


@pins("case-92")
@pytest.mark.parametrize(
    ("commands", "is_beyond_reset"),
    [
        (["SELECT 1", "AUTH s3cret", "HELLO 2", "RESET", "CLIENT SETNAME me"], False),
        (["CLIENT TRACKING ON", "CLIENT CACHING YES", "READONLY", "READWRITE", "ASKING"], False),
        (["WATCH k", "MULTI", "GET k"], False),
        (["CLIENT NO-EVICT ON"], True),
        (["CLIENT NO-TOUCH ON"], True),
        (["CLIENT SETINFO LIB-NAME x"], True),
        (["SCRIPT DEBUG YES"], True),
        (["HIMPORT PREPARE"], True),
        (["CLIENT CAPA redirect"], True),
        (["CLIENT NO-EVICT ON", "RESET"], True),
    ],
    ids=str,
)
def test_what_every_server_undoes(commands, is_beyond_reset):
    assert after(*commands).is_beyond_reset is is_beyond_reset
