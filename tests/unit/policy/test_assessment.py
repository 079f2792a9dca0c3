"""How a client is, told from what was seen of it."""

import json
import pickle
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioredis_kit.policy.assessment import BLOCKED, RECENT, Answer, Signs, assess

WELL = Signs(state="ready", timeout=0.5, answers=(Answer(latency=0.001),))
DOWN = Signs(state="reconnecting", timeout=0.5, is_connected=False, down_for=3.25, lost_ago=3.25, latest_loss="cut")


@pytest.mark.parametrize(
    ("signs", "changes", "status", "concerns"),
    [
        (WELL, {}, "ok", []),
        (WELL, {"answers": ()}, "ok", []),  # nobody waited for any
        # The client has ended, or will.
        (DOWN, {"has_closed": True, "state": "closed"}, "dead", ["closed"]),
        (DOWN, {"has_given_up": True, "state": "terminated"}, "dead", ["gave up"]),
        (WELL, {"is_closing": True, "state": "closing"}, "unavailable", ["closed"]),
        # There is no connection.
        (DOWN, {}, "unavailable", ["not connected"]),
        (DOWN, {"is_refused": True}, "unavailable", ["credentials refused"]),
        (DOWN, {"not_serving": "LOADING", "is_refused": True}, "unavailable", ["not serving"]),
        (
            DOWN,
            {"delayed": 2.0, "misses_messages": True},
            "unavailable",
            ["not connected", "event loop blocked", "messages missed"],
        ),
        # The server does not answer, or not as it should.
        (WELL, {"answers": (Answer(latency=None, is_heard=False),)}, "unavailable", ["silent"]),
        (WELL, {"answers": (Answer(latency=0.01), Answer(latency=None, is_heard=False))}, "unavailable", ["silent"]),
        (WELL, {"answers": (Answer(latency=None),)}, "degraded", ["slow"]),
        (WELL, {"answers": (Answer(latency=0.249),)}, "ok", []),
        (WELL, {"answers": (Answer(latency=0.25),)}, "degraded", ["slow"]),
        (WELL, {"answers": (Answer(latency=0.01, refusal="NOPERM"),)}, "ok", []),
        (WELL, {"answers": (Answer(latency=0.01, refusal="LOADING"),)}, "unavailable", ["not serving"]),
        (WELL, {"answers": (Answer(latency=0.01, refusal="BUSY"),)}, "unavailable", ["not serving"]),
        # Worries.
        (WELL, {"delayed": BLOCKED}, "degraded", ["event loop blocked"]),
        (WELL, {"delayed": BLOCKED * 0.99}, "ok", []),
        (WELL, {"waiting": 9, "oldest": 0.25}, "degraded", ["backlog"]),
        (WELL, {"waiting": 9, "oldest": 0.2}, "ok", []),
        (WELL, {"waiting_for_lease": 1}, "degraded", ["leases exhausted"]),
        (WELL, {"misses_messages": True}, "degraded", ["messages missed"]),
        (WELL, {"token_ended_for": 0.1}, "degraded", ["token ended"]),
        (WELL, {"lost_ago": RECENT}, "degraded", ["recently lost"]),
        (WELL, {"lost_ago": RECENT + 0.1}, "ok", []),
        (WELL, {"lost_ago": RECENT + 9, "back_ago": RECENT}, "degraded", ["recently lost"]),
        (WELL, {"lost_ago": RECENT + 9, "back_ago": RECENT + 0.1}, "ok", []),
    ],
)
def test_the_verdict(signs, changes, status, concerns):
    health = assess(replace(signs, **changes))
    assert (health.status, [each.concern.value for each in health.reasons]) == (status, concerns)
    assert health.is_live is (status != "dead")
    assert health.is_ready is (status in {"ok", "degraded"})
    assert health.is_degraded is bool(concerns)


def test_the_latency_is_that_of_the_slowest_connection_if_all_have_answered():
    answers = (Answer(latency=0.01), Answer(latency=0.02))
    assert assess(replace(WELL, answers=answers)).latency == 0.02
    assert assess(replace(WELL, answers=(*answers, Answer(latency=None)))).latency is None


@pytest.mark.parametrize(
    ("signs", "text"),
    [
        (replace(DOWN, last_error="refused"), "reconnecting for 3.2 s; last: refused"),
        (
            replace(DOWN, not_serving="LOADING"),
            "reconnecting for 3.2 s: the server answers LOADING, it does not serve yet",
        ),
        (replace(WELL, delayed=0.5), "the event loop of this process did not turn for 0.50 s of the last 5 s"),
        (replace(WELL, waiting=9, oldest=0.3), "9 commands wait to be sent, for up to 0.30 s"),
        (replace(WELL, lost_ago=1.25, latest_loss="cut"), "a connection was lost 1.2 s ago: cut"),
    ],
)
def test_the_words(signs, text):
    assert text in str(assess(signs).reasons[0])


BOOLEANS = {each.name: st.booleans() for each in fields(Signs) if each.type == "bool"}
FLOATS = {name: st.floats(0, 100) for name in ("timeout", "down_for", "delayed", "oldest")}
MAYBE = {name: st.none() | st.floats(0, 100) for name in ("lost_ago", "back_ago", "token_ended_for")}
ANSWERS = st.tuples() | st.builds(Answer, latency=st.none() | st.floats(0, 10), is_heard=st.booleans()).map(
    lambda one: (one,)
)


@given(st.builds(Signs, state=st.just("state"), answers=ANSWERS, **BOOLEANS, **FLOATS, **MAYBE))
def test_what_holds_of_every_verdict(signs):
    """What isn't ready says why; what is dead isn't ready; all of it can be sent."""
    health = assess(signs)
    assert health.is_ready or health.reasons
    assert health.is_live or not health.is_ready
    assert len({each.concern for each in health.reasons}) == len(health.reasons)
    assert all(str(each) for each in health.reasons)
    assert json.loads(json.dumps(health.as_dict()))["status"] == health.status
    assert pickle.loads(pickle.dumps(health)) == health
