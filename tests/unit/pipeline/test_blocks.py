"""What a pipeline writes, in how many units, and what the replies to a MULTI block mean."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import BusyLoadingError, ExecAbortError, ResponseError, WatchError

from aioredis_kit.pipeline.blocks import refusal_of_all, results_of_block, split

QUEUED = "QUEUED"
ABORT = ExecAbortError("Transaction discarded because of previous errors.")


def lengths(places):
    return [place.stop - place.start for place in places]


@pytest.mark.parametrize(
    ("payloads", "expected"),
    [
        ([b"x" * 10] * 3, [3]),
        ([b"x" * 10] * 4, [4]),
        ([b"x" * 10] * 9, [4, 4, 1]),
        ([b"x" * 60, b"x" * 60, b"x"], [1, 2]),  # by size
        ([b"x" * 500, b"x", b"x"], [1, 2]),  # one that is too large is let in alone
        ([[b"x" * 50, b"y" * 40], b"x" * 20], [1, 1]),  # in pieces
    ],
)
def test_splitting(payloads, expected):
    assert lengths(split(payloads, most_commands=4, most_bytes=100)) == expected


def test_some_commands_are_units_of_their_own():
    places = split([b"1"] * 7, most_commands=2, most_bytes=100, alone={0, 3, 4})
    assert lengths(places) == [1, 2, 1, 1, 2]


@given(st.lists(st.integers(1, 50), min_size=1), st.integers(1, 7), st.integers(1, 90))
def test_splitting_leaves_nothing_out_and_holds_the_limits(sizes, most_commands, most_bytes):
    payloads = [b"x" * size for size in sizes]
    places = list(split(payloads, most_commands=most_commands, most_bytes=most_bytes))
    assert [index for place in places for index in range(place.start, place.stop)] == list(range(len(sizes)))
    for place in places:
        own = sizes[place]
        assert own
        assert len(own) <= most_commands
        assert sum(own) <= most_bytes or len(own) == 1


def test_results_of_a_block():
    results = results_of_block(["OK", QUEUED, QUEUED, [1, b"x"]], {}, 2)
    assert results == ([1, b"x"], set())


def test_what_was_not_sent_has_its_place():
    results, refused = results_of_block(["OK", QUEUED, [1]], {0: [], 2: None}, 3)
    assert results == [[], 1, None]
    assert refused == set()


def test_a_refusal_inside_is_a_result():
    error = ResponseError("WRONGTYPE")
    assert results_of_block(["OK", QUEUED, QUEUED, [error, 2]], {}, 2) == ([error, 2], set())


def test_a_changed_key():
    with pytest.raises(WatchError):
        results_of_block(["OK", QUEUED, None], {}, 1)


def test_a_block_that_was_refused_because_of_a_command():
    first, second = ResponseError("unknown command"), ResponseError("wrong number of arguments")
    with pytest.raises(ResponseError) as caught:
        results_of_block(["OK", QUEUED, first, second, ABORT], {}, 3)
    assert caught.value is first
    assert caught.value.__cause__ is ABORT


def test_a_block_that_was_refused_for_no_told_reason():
    with pytest.raises(ExecAbortError):
        results_of_block(["OK", QUEUED, ABORT], {}, 1)


def test_another_refusal_of_exec():
    with pytest.raises(ResponseError, match="EXEC without MULTI"):
        results_of_block(
            [BusyLoadingError("LOADING"), BusyLoadingError("LOADING"), ResponseError("EXEC without MULTI")], {}, 1
        )


def test_a_result_too_few():
    with pytest.raises(ResponseError, match="Wrong number"):
        results_of_block(["OK", QUEUED, QUEUED, [1]], {}, 2)


@pytest.mark.parametrize(
    ("replies", "is_block", "expected"),
    [
        ([1, 2], False, None),
        ([ResponseError("a"), 2], False, None),
        ([ResponseError("a"), ResponseError("b")], False, "a"),
        (["OK", ResponseError("a"), ABORT], True, "a"),
        ([BusyLoadingError("a"), ResponseError("b"), ResponseError("c")], True, "a"),
        (["OK", QUEUED, [ResponseError("a")]], True, None),
        (["OK", QUEUED, None], True, None),
    ],
)
def test_whether_nothing_was_executed(replies, is_block, expected):
    refusal = refusal_of_all(replies, is_block=is_block)
    assert (refusal and str(refusal)) == expected
