"""Events are values with a name, and with what their listeners are called with."""

import dataclasses

import pytest

from aioredis_kit.events import (
    EVENT_NAMES,
    ChannelMoved,
    Connected,
    Ended,
    Event,
    Failed,
    Invalidated,
    Orphaned,
    Pinged,
    Ready,
    Reauthenticated,
    Reconnecting,
    Renewed,
    Terminated,
)
from aioredis_kit.exceptions import ConnectError

CAUSE = ConnectError("gone")

EVENTS = [
    (Connected(), "connect", ()),
    (Ready(protocol=3), "ready", ()),
    (Reconnecting(2, 0.25), "reconnecting", (2, 0.25)),
    (Failed(CAUSE), "error", (CAUSE,)),
    (Terminated(CAUSE), "terminated", (CAUSE,)),
    (Renewed(1e9), "credentials-renewed", (1e9,)),
    (Reauthenticated(), "reauthenticated", ()),
    (Pinged(0.002), "ping-interval", (0.002,)),
    (Orphaned(("BLPOP", "k", 0), (b"k", b"v")), "reply-orphaned", (("BLPOP", "k", 0), (b"k", b"v"))),
    (Invalidated(b"k"), "invalidate", (b"k",)),
    (ChannelMoved(b"c"), "sharded-channel-moved", (b"c",)),
    (Ended(), "end", ()),
]


@pytest.mark.parametrize(("event", "name", "arguments"), EVENTS, ids=[name for _, name, _ in EVENTS])
def test_what_listeners_are_told(event, name, arguments):
    assert event.name == name
    assert event.arguments == arguments


def test_every_event_can_be_listened_to():
    assert {kind.name for kind in Event.__subclasses__()} == {name for _, name, _ in EVENTS}
    assert {name for _, name, _ in EVENTS} == set(EVENT_NAMES)
    assert len(EVENT_NAMES) == len(set(EVENT_NAMES))


@pytest.mark.parametrize("event", [event for event, _, _ in EVENTS], ids=lambda event: event.name)
def test_an_event_is_a_value(event):
    assert dataclasses.replace(event) == event
    assert hash(dataclasses.replace(event)) == hash(event)
    for field in dataclasses.fields(event):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(event, field.name, None)
