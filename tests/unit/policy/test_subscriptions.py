"""What is subscribed follows what is wanted, whatever the server, the network and the callers do in between."""

from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aioredis_kit.policy.subscriptions import CONFIRMATIONS, Kind, Subscriptions

pins = pytest.mark.pins

CHANNEL, PATTERN, SHARD = Kind.CHANNEL, Kind.PATTERN, Kind.SHARD


def connected():
    subscriptions = Subscriptions()
    assert subscriptions.connected() == []
    return subscriptions


def confirm(subscriptions, request):
    """Confirm all of a request; return the changes."""
    return [subscriptions.confirmed(request.kind, name, is_on=request.is_on) for name in request.names]


def live(subscriptions, names, consumer="a", kind=CHANNEL):
    """Let topics be subscribed and confirmed."""
    request = subscriptions.add(kind, names, consumer)
    if request is not None:
        confirm(subscriptions, request)
    return subscriptions


def audience(subscriptions, name, kind=CHANNEL):
    return subscriptions.topics[kind][name].gather()


def test_the_words():
    assert [(kind.subscribe, kind.unsubscribe) for kind in Kind] == [
        ("SUBSCRIBE", "UNSUBSCRIBE"),
        ("PSUBSCRIBE", "PUNSUBSCRIBE"),
        ("SSUBSCRIBE", "SUNSUBSCRIBE"),
    ]
    assert CONFIRMATIONS[b"psubscribe"] == (PATTERN, True)
    assert CONFIRMATIONS[b"sunsubscribe"] == (SHARD, False)


def test_the_first_consumer_subscribes_and_the_last_one_unsubscribes():
    subscriptions = connected()
    request = subscriptions.add(CHANNEL, [b"x", b"y", b"x"], "a")
    assert request.command == ("SUBSCRIBE", b"x", b"y")
    confirm(subscriptions, request)
    assert subscriptions.add(CHANNEL, [b"x"], "b") is None
    assert subscriptions.remove(CHANNEL, [b"x", b"unknown"], "a") is None
    assert audience(subscriptions, b"x") == ("b",)
    request = subscriptions.remove(CHANNEL, [b"x"], "b")
    assert request.command == ("UNSUBSCRIBE", b"x")
    confirm(subscriptions, request)
    assert list(subscriptions.topics[CHANNEL]) == [b"y"]


def test_the_same_consumer_counts_once():
    subscriptions = live(live(connected(), [b"x"]), [b"x"])
    assert audience(subscriptions, b"x") == ("a",)
    assert subscriptions.remove(CHANNEL, [b"x"], "a") is not None


@pins("case-57")
def test_leaving_what_is_unknown_changes_nothing():
    subscriptions = live(connected(), [b"x"])
    assert subscriptions.remove(CHANNEL, [b"x"], "b") is None
    assert subscriptions.remove(PATTERN, [b"x"], "a") is None
    assert subscriptions.remove(CHANNEL, [], "a") is None


def test_kinds_are_worlds_of_their_own():
    subscriptions = live(live(live(connected(), [b"x"]), [b"x"], kind=PATTERN), [b"x"], kind=SHARD)
    assert subscriptions.remove(PATTERN, [b"x"], "a").command == ("PUNSUBSCRIBE", b"x")
    assert audience(subscriptions, b"x", SHARD) == ("a",)


def test_messages_are_for_those_whose_topic_is_confirmed():
    """From the confirmation on, and only while nothing is under way about it."""
    subscriptions = connected()
    request = subscriptions.add(CHANNEL, [b"x"], "a")
    assert audience(subscriptions, b"x") == ()
    assert [change.is_subscribed for change in confirm(subscriptions, request)] == [True]
    assert audience(subscriptions, b"x") == ("a",)
    off = subscriptions.remove(CHANNEL, [b"x"], "a")
    on = subscriptions.add(CHANNEL, [b"x"], "b")
    assert audience(subscriptions, b"x") == ()  # what still comes is from before
    assert [change.is_subscribed for change in confirm(subscriptions, off)] == [False]
    assert audience(subscriptions, b"x") == ()
    assert [change.is_subscribed for change in confirm(subscriptions, on)] == [True]
    assert audience(subscriptions, b"x") == ("b",)


def test_without_a_connection_nothing_is_asked_and_the_next_one_begins_with_all():
    subscriptions = Subscriptions()
    assert subscriptions.add(CHANNEL, [b"x", b"y"], "a") is None
    assert subscriptions.add(SHARD, [b"s"], "a") is None
    assert subscriptions.add(PATTERN, [b"p"], "a") is None
    assert subscriptions.remove(CHANNEL, [b"y"], "a") is None
    requests = subscriptions.connected()
    assert [request.command for request in requests] == [
        ("SUBSCRIBE", b"x"),
        ("PSUBSCRIBE", b"p"),
        ("SSUBSCRIBE", b"s"),
    ]


@pins("case-59")
def test_all_is_asked_again_on_a_new_connection_and_those_who_were_served_have_missed_something():
    subscriptions = live(live(live(connected(), [b"x"]), [b"x"], "b"), [b"p"], "c", PATTERN)
    subscriptions.add(CHANNEL, [b"new"], "d")  # not confirmed, so nothing of it was promised yet
    assert subscriptions.disconnected() == ["a", "b", "c"]
    assert [request.command for request in subscriptions.connected()] == [
        ("SUBSCRIBE", b"x", b"new"),
        ("PSUBSCRIBE", b"p"),
    ]
    assert subscriptions.disconnected() == []


def test_what_nobody_wants_any_more_is_forgotten_with_the_connection():
    subscriptions = live(connected(), [b"x"])
    subscriptions.remove(CHANNEL, [b"x"], "a")
    subscriptions.disconnected()
    assert not any(subscriptions.topics.values())


@pytest.mark.parametrize("kind", Kind)
def test_a_subscription_that_the_server_ended_is_asked_for_again(kind):
    subscriptions = live(connected(), [b"x"], kind=kind)
    change = subscriptions.confirmed(kind, b"x", is_on=False)
    assert change.is_unasked
    assert change.request.command == (kind.subscribe, b"x")
    assert audience(subscriptions, b"x", kind) == ()
    (change,) = confirm(subscriptions, change.request)
    assert (change.is_subscribed, change.is_unasked) == (True, False)


def test_what_the_server_ended_while_it_was_asked_for_is_asked_for_once():
    """The confirmation that is on its way comes behind it."""
    subscriptions = connected()
    request = subscriptions.add(SHARD, [b"x"], "a")
    change = subscriptions.confirmed(SHARD, b"x", is_on=False)
    assert (change.request, change.is_unasked) == (None, False)
    assert [change.is_subscribed for change in confirm(subscriptions, request)] == [True]


def test_a_subscription_that_nobody_asked_for_is_ended():
    subscriptions = connected()
    change = subscriptions.confirmed(CHANNEL, b"x", is_on=True)
    assert change.request.command == ("UNSUBSCRIBE", b"x")
    confirm(subscriptions, change.request)
    assert not any(subscriptions.topics.values())
    assert subscriptions.confirmed(CHANNEL, b"x", is_on=False).request is None


def test_a_confirmation_that_never_came_is_asked_for_once_more_at_once():
    subscriptions = connected()
    request = subscriptions.add(CHANNEL, [b"x", b"y"], "a")
    subscriptions.confirmed(CHANNEL, b"x", is_on=True)
    (again,) = subscriptions.unanswered(request)
    assert again.command == ("SUBSCRIBE", b"y")
    assert subscriptions.unanswered(again) == []  # now it has time
    (again,) = subscriptions.checked()
    assert again.command == ("SUBSCRIBE", b"y")
    assert subscriptions.checked() == []  # it is under way
    confirm(subscriptions, again)
    assert audience(subscriptions, b"y") == ("a",)


def test_an_unsubscription_that_never_came_is_asked_for_again():
    subscriptions = live(connected(), [b"x"])
    request = subscriptions.remove(CHANNEL, [b"x"], "a")
    (again,) = subscriptions.unanswered(request)
    assert again.command == ("UNSUBSCRIBE", b"x")
    confirm(subscriptions, again)
    assert not any(subscriptions.topics.values())


def test_what_was_answered_is_not_asked_again():
    subscriptions = connected()
    request = subscriptions.add(CHANNEL, [b"x"], "a")
    confirm(subscriptions, request)
    assert subscriptions.unanswered(request) == []
    assert subscriptions.checked() == []


def test_one_refused_name_does_not_spoil_the_others():
    subscriptions = connected()
    request = subscriptions.add(CHANNEL, [b"x", b"forbidden"], "a")
    alone = subscriptions.refused(request)
    assert [each.command for each in alone] == [("SUBSCRIBE", b"x"), ("SUBSCRIBE", b"forbidden")]
    confirm(subscriptions, alone[0])
    assert subscriptions.refused(alone[1]) == []
    assert subscriptions.remove(CHANNEL, [b"forbidden"], "a") is None  # it was never subscribed
    assert list(subscriptions.topics[CHANNEL]) == [b"x"]


def test_what_is_refused_alone_is_left_to_the_next_look():
    subscriptions = connected()
    assert subscriptions.refused(subscriptions.add(CHANNEL, [b"x"], "a")) == []
    (again,) = subscriptions.checked()
    assert again.command == ("SUBSCRIBE", b"x")


def test_a_refused_name_that_something_newer_was_asked_about():
    """It settles by that."""
    subscriptions = live(connected(), [b"z"])
    request = subscriptions.add(CHANNEL, [b"x", b"y"], "a")
    off = subscriptions.remove(CHANNEL, [b"x"], "a")
    (alone,) = subscriptions.refused(request)
    assert alone.command == ("SUBSCRIBE", b"y")
    confirm(subscriptions, off)
    assert set(subscriptions.topics[CHANNEL]) == {b"y", b"z"}


def test_a_late_verdict_of_an_earlier_connection_means_nothing():
    subscriptions = connected()
    request = subscriptions.add(CHANNEL, [b"x", b"y"], "a")
    subscriptions.disconnected()
    (again,) = subscriptions.connected()
    assert subscriptions.refused(request) == []
    assert subscriptions.unanswered(request) == []
    assert again.names == (b"x", b"y")


def test_looking_without_a_connection_finds_nothing():
    subscriptions = live(connected(), [b"x"])
    subscriptions.disconnected()
    assert subscriptions.checked() == []


def test_who_is_there():
    subscriptions = live(live(connected(), [b"x"]), [b"y"], "b")
    assert subscriptions
    assert subscriptions.consumers() == ["a", "b"]
    assert subscriptions.has(CHANNEL, b"x", "a")
    assert not subscriptions.has(CHANNEL, b"x", "b")
    assert not subscriptions.has(PATTERN, b"x", "a")
    assert subscriptions.is_live(CHANNEL, b"x")
    assert not subscriptions.is_live(CHANNEL, b"z")
    subscriptions.clear()
    assert not subscriptions
    assert subscriptions.consumers() == []


class Server:
    """A server that answers in order, refuses and forgets as it is told, and ends subscriptions by itself."""

    def __init__(self, subscriptions):
        self.subscriptions = subscriptions
        self.on = {kind: set() for kind in Kind}
        self.waiting = deque()

    def take(self, *requests):
        self.waiting.extend(request for request in requests if request is not None)

    def answer(self, *, verdict="obey"):
        if not self.waiting:
            return
        request = self.waiting.popleft()
        if verdict == "refuse":
            self.take(*self.subscriptions.refused(request))
            return
        for name in request.names:
            (self.on[request.kind].add if request.is_on else self.on[request.kind].discard)(name)
            if verdict == "obey":
                self.take(self.subscriptions.confirmed(request.kind, name, is_on=request.is_on).request)
        self.take(*self.subscriptions.unanswered(request))

    def end(self, kind, name):
        if name in self.on[kind]:
            self.on[kind].discard(name)
            self.take(self.subscriptions.confirmed(kind, name, is_on=False).request)

    def publish(self):
        """Send a message to each topic: one that the client knows nothing of counts as a confirmation."""
        for kind, names in self.on.items():
            for name in names - set(self.subscriptions.topics[kind]):
                self.take(self.subscriptions.confirmed(kind, name, is_on=True).request)

    def reconnect(self):
        self.subscriptions.disconnected()
        self.waiting.clear()
        self.on = {kind: set() for kind in Kind}
        self.take(*self.subscriptions.connected())


KINDS = st.sampled_from([CHANNEL, SHARD])
NAMES = st.sampled_from([b"x", b"y", b"z"])
STEPS = st.one_of(
    st.tuples(st.just("add"), KINDS, st.lists(NAMES, min_size=1, max_size=3), st.sampled_from("ab")),
    st.tuples(st.just("remove"), KINDS, st.lists(NAMES, min_size=1, max_size=3), st.sampled_from("ab")),
    st.tuples(st.just("answer"), st.sampled_from(["obey", "obey", "obey", "refuse", "forget"])),
    st.tuples(st.just("end"), KINDS, NAMES),
    st.tuples(st.just("reconnect")),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(STEPS, max_size=30))
def test_in_the_end_the_server_has_what_is_wanted(steps):
    """However it goes: when the server obeys again, a look or two bring everything into line, and no trace is left.

    What it had subscribed without ever telling is noticed by its messages.
    """
    subscriptions = connected()
    server = Server(subscriptions)
    wanted = set()
    for what, *args in steps:
        if what == "add":
            server.take(subscriptions.add(*args))
            wanted |= {(args[0], name, args[2]) for name in args[1]}
        elif what == "remove":
            server.take(subscriptions.remove(*args))
            wanted -= {(args[0], name, args[2]) for name in args[1]}
        elif what == "answer":
            server.answer(verdict=args[0])
        elif what == "end":
            server.end(*args)
        else:
            server.reconnect()
    for _ in range(3):
        while server.waiting:
            server.answer()
        server.take(*subscriptions.checked())
        server.publish()
    assert not server.waiting
    for kind in Kind:
        assert server.on[kind] == {name for each, name, _ in wanted if each is kind}
        assert set(subscriptions.topics[kind]) == server.on[kind]
        for name, topic in subscriptions.topics[kind].items():
            assert set(topic.gather()) == {consumer for each, on, consumer in wanted if (each, on) == (kind, name)}
