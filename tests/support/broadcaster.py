"""Make a scripted peer a server of channels: it confirms, refuses or keeps silent as a test says."""

from __future__ import annotations

from functools import partial

from aioredis_kit.testing import resp

REFUSAL = "NOPERM No permissions to access a channel"


class Broadcaster:
    """The part of a peer that knows of channels.

    Attributes:
        refused: Names that nobody may subscribe to.
        unconfirmed: Names about which nothing is ever confirmed.
        behind: Frames to send in the packet of each confirmation, behind it.
        stalled: Connections on which nothing is answered any more.
    """

    def __init__(self, peer, protocol=3):
        self.peer = peer
        self.refused = set()
        self.unconfirmed = set()
        self.behind = b""
        self.stalled = set()
        self._held_names = set()
        self._held = []  # commands, and what makes their answers
        self._is_resp3 = protocol == 3
        self._subscribed = {}  # by connection, kind and name
        for kind in ("", "P", "S"):
            peer.on(f"{kind}SUBSCRIBE", partial(self._respond, self._answer))
            peer.on(f"{kind}UNSUBSCRIBE", partial(self._respond, self._answer))
        peer.on("PING", partial(self._respond, self._pong))

    @property
    def connection(self):
        """The latest connection on which something was ever subscribed."""
        return max(self._subscribed, key=lambda connection: connection.number)

    @property
    def topics(self):
        """What is subscribed on that connection: kinds and names."""
        return self._subscribed[self.connection]

    @property
    def requests(self):
        """All commands about subscriptions, as text."""
        return [b" ".join(each.words).decode() for each in self.peer.commands if each.name.endswith("SUBSCRIBE")]

    def publish(self, channel, data, *, pattern=None, is_shard=False, count=1):
        """Send a message so many times, in one packet, on the latest connection."""
        self.connection.send(self.message(channel, data, pattern=pattern, is_shard=is_shard) * count)

    def message(self, channel, data, *, pattern=None, is_shard=False):
        """Return the frame of a message."""
        words = [channel, data] if pattern is None else [pattern, channel, data]
        kind = "pmessage" if pattern is not None else "smessage" if is_shard else "message"
        return self._frame(kind, *(resp.bulk(word) for word in words))

    def end(self, name, kind="s"):
        """End a subscription that nobody asked to end."""
        self.topics.discard((kind, name))
        self.connection.send(self._frame(f"{kind}unsubscribe", resp.bulk(name), resp.integer(0)))

    def hold(self, *names):
        """Hold commands of these names up, and what comes behind them; return the list of those that will come."""
        self._held_names.update(names)
        return self._held

    def go_on(self):
        """Execute and answer what was held up."""
        self._held_names.clear()
        while self._held:
            answer, received = self._held.pop(0)
            received.connection.send(answer(received))

    def _respond(self, answer, received):
        if received.connection in self.stalled:
            return None
        is_behind = any(each.connection is received.connection for _, each in self._held)
        if is_behind or received.name in self._held_names:
            self._held.append((answer, received))
            return None
        return answer(received)

    def _answer(self, received):
        topics = self._subscribed.setdefault(received.connection, set())
        word = received.name.lower()
        kind = word.removesuffix("subscribe").removesuffix("un")
        names = [name.decode() for name in received.words[1:]]
        if "un" not in word and not self.refused.isdisjoint(names):
            return resp.error(REFUSAL)
        frames = b""
        for name in names:
            if "un" in word:
                topics.discard((kind, name))
            else:
                topics.add((kind, name))
            if name not in self.unconfirmed:
                frames += self._frame(word, resp.bulk(name), resp.integer(len(topics)))
        return frames + self.behind

    def _pong(self, received):
        data = received.words[1] if len(received.words) > 1 else None
        if not self._is_resp3 and self._subscribed.get(received.connection):
            return resp.array(resp.bulk("pong"), resp.bulk(data or ""))
        return resp.simple("PONG") if data is None else resp.bulk(data)

    def _frame(self, kind, *frames):
        return resp.push(kind, *frames) if self._is_resp3 else resp.array(resp.bulk(kind), *frames)


async def collect(messages, count):
    """Take so many messages."""
    return [await messages.get(timeout=5) for _ in range(count)]
