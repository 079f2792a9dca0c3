"""Slots, sent on a machine, and what came of them."""

from aioredis_kit.wire.inflight import Slot

MOMENT = (12.5, 340, 7)


def slots(count, *, decode=False):
    """Return slots that were not sent yet."""
    return [Slot(b"<%d>" % number, decode=decode) for number in range(count)]


def send(machine, count, *, decode=False):
    """Send so many; return them."""
    sent = slots(count, decode=decode)
    machine.send(sent, MOMENT)
    return sent


def receive(machine, chunks):
    """Return the slots that some chunks have answered."""
    return [slot for chunk in chunks for slot in machine.receive_data(chunk)]
