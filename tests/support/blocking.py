"""A scripted peer that blocks, unblocks and gives elements away; and a look at a client's dedicated connections."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque

from aioredis_kit.testing import resp
from tests.support.observing import until

BLOCKING = ("BLPOP", "BLMOVE", "XREAD", "XREADGROUP", "WAIT")


class BlockingPeer:
    """Lets blocking commands of a peer wait until a test answers them, or ``CLIENT UNBLOCK`` ends them.

    Attributes:
        peer: The peer.
        blocked: The commands that wait, by connection.
        unblocks: The answers to ``CLIENT UNBLOCK`` so far.
    """

    def __init__(self, peer):
        self.peer = peer
        self.blocked = defaultdict(deque)
        self.unblocks = []
        for name in BLOCKING:
            peer.on(name, self._block)
        peer.on("CLIENT UNBLOCK", self._unblock)

    @property
    def waiting(self):
        """All commands that wait, in the order in which they came."""
        order = {id(received): place for place, received in enumerate(self.peer.commands)}
        return sorted((each for line in self.blocked.values() for each in line), key=lambda each: order[id(each)])

    def give(self, frame, place=0):
        """Answer one of the commands that wait."""
        received = self.waiting[place]
        self.blocked[received.connection].remove(received)
        received.connection.send(frame)

    def _block(self, received):
        self.blocked[received.connection].append(received)

    def _unblock(self, received):
        line = self.blocked[self.peer.connections[int(received.words[2]) - 1]]
        self.unblocks.append(min(len(line), 1))
        if line:
            line.popleft().connection.send(resp.null())
        return resp.integer(self.unblocks[-1])


async def start_blocking(blocking, call):
    """Start a call that blocks; return its task when the peer has got it."""
    known = len(blocking.waiting)
    task = asyncio.create_task(call)
    await until(lambda: len(blocking.waiting) > known)
    return task


def accounts(client):
    """How many orphaned replies and unknown outcomes a client counts, and its leases: all, and lent."""
    return client.statistics().orphaned_replies, client.statistics().unknown_outcomes, *lease_count(client)


def dedicated_lane(client):
    """The dedicated lane of a client that is open."""
    return client._core.route(()).dedicated


def lease_count(client):
    """How many dedicated connections a client has, and how many of them are lent."""
    lane = dedicated_lane(client)
    return len(lane._leases), len(lane._lent)


def words_on(connection, *, handshakes=False):
    """The commands that came on a connection of a peer, as text, without those of the handshake."""
    found = [" ".join(word.decode() for word in received.words) for received in connection.commands]
    return found if handshakes else [each for each in found if not each.startswith(("HELLO", "CLIENT SETINFO", "PING"))]
