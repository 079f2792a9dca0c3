"""The replies that are kept, what they depend on, and what ends them.

Rules of this file:

1. A load is there from the moment in which its command is about to be sent: whatever changes one of its keys before the
   reply is stored, ends it like a reply that is stored. So a reply that is older than a change is never stored behind
   it.
2. A load that has ended is found by nobody any more. Whoever waits for it still gets the reply: that read began before
   the change. It never touches what has come after it.
3. Of each command there is a load, or a reply, or neither; so what a key leads to is one of both.
4. What is kept is made of tuples of what refers to nothing: Python's garbage collector passes over those. Objects would
   be looked at again and again, as many as there are.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from weakref import WeakValueDictionary

from aioredis_kit.cache.options import CacheOptions
from aioredis_kit.cache.replies import CONTAINERS, size_of_reply
from aioredis_kit.cache.statistics import CacheStatistics
from aioredis_kit.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

Read: TypeAlias = bytes | tuple[Any, ...]
"""What a reply is found by: a command, and what it is read through."""
Keys: TypeAlias = bytes | tuple[bytes, ...]
"""The Redis keys that a command reads: one, or several."""
Entry: TypeAlias = tuple[float, Any, bool, Keys, int, int]
"""What is kept of a read:

- when it ends, on the clients' clock; ``NEVER``: not by time;
- the raw reply, not to be changed;
- whether that is copied whenever it is handed out;
- the Redis keys that it depends on;
- the ``id`` of what will know of changes of its keys: a connection's lane;
- how much memory all of it takes, in bytes.
"""

NEVER: Final = math.inf
_OVERHEAD: Final = 364
"""What an entry costs beside its command, its keys and its reply, in bytes: itself, and its places in dictionaries."""
_OVERHEAD_OF_KEY: Final = 65
"""What one of its keys costs beside its text, in bytes."""
_OVERHEAD_OF_TEXT: Final = 75
"""What a command costs that is kept as it is, more than one that is kept as it is sent, in bytes."""


class LoadState(IntEnum):
    """What has become of a load."""

    PENDING = 0
    ENDED = 1
    """It is not to be stored: something that it depends on has changed, or it failed."""
    STORED = 2


PENDING: Final = LoadState.PENDING
ENDED: Final = LoadState.ENDED
STORED: Final = LoadState.STORED


def each_of(keys: Keys) -> tuple[bytes, ...]:
    """Return keys as a tuple, also where there is but one."""
    return (keys,) if isinstance(keys, bytes) else keys


class Space:
    """Stands for all replies of one kind. Each view may have a time of its own, so there may be any number.

    Attributes:
        suffix: What the keys of their entries end with.
    """

    __slots__ = ("__weakref__", "suffix")

    def __init__(self, suffix: bytes) -> None:
        self.suffix = suffix


class Load:
    """A command that is being asked for.

    Attributes:
        read: What its reply will be found by.
        keys: The Redis keys that it depends on.
        source: What will know of changes of its keys: a connection's lane. ``None`` until that is known.
        state: What has become of it.
    """

    __slots__ = ("keys", "read", "source", "state")

    read: Read
    keys: Keys
    source: object
    state: LoadState


class ClientSideCache:
    """Replies that are kept, until the server says that one of their keys has changed.

    One object may serve several clients of one event loop: what one has read is a hit for the others, if they are the
    same user, on the same database of the same server, with the same decoding. When the last of them is closed it is
    cleared.

    Args:
        options: What is kept.

    Attributes:
        options: The same.
        entries: All replies, by what they are found by; in the order in which they have to go.
        loads: All commands that are being asked for, likewise.
        joined: Who waits for which load, beside the one who began it.
    """

    def __init__(self, options: CacheOptions | None = None) -> None:
        if options is not None and not isinstance(options, CacheOptions):
            raise ConfigurationError(f"ClientSideCache takes CacheOptions, not {type(options).__name__!r}")
        self.options = options = options or CacheOptions()
        self.entries: OrderedDict[Read, Entry] = OrderedDict()
        self.loads: dict[Read, Load] = {}
        self.joined: dict[Load, dict[Any, None]] = {}
        self.is_lru = options.eviction == "lru"
        self._by_key: dict[bytes, Read | dict[Read, None]] = {}
        self._bytes = 0
        self._users: dict[object, Hashable] = {}
        self._spaces: WeakValueDictionary[Hashable, Space] = WeakValueDictionary()
        self._spaces_made = 0
        self.hits = 0
        self.misses = 0
        self.joined_loads = 0
        self._begin_counting()

    def _begin_counting(self) -> None:
        self.hits = self.misses = self.joined_loads = 0
        self._load_successes = self._load_failures = 0
        self._total_load_time = 0.0
        self._evictions = self._invalidations = 0

    def stats(self) -> CacheStatistics:
        """Return what it has done since it was made, or last cleared."""
        return CacheStatistics(
            hits=self.hits,
            misses=self.misses,
            joined_loads=self.joined_loads,
            load_successes=self._load_successes,
            load_failures=self._load_failures,
            total_load_time=self._total_load_time,
            evictions=self._evictions,
            invalidations=self._invalidations,
            entries=len(self.entries),
            bytes=self._bytes,
        )

    def invalidate(self, key: str | bytes | None) -> None:
        """Drop what depends on a key, or with ``None`` everything. Statistics go on.

        Args:
            key: The key; text is encoded as UTF-8.
        """
        if key is None:
            self._invalidations += len(self.entries) + len(self.loads)
            self._end_all()
            return
        found = self._by_key.get(key.encode() if isinstance(key, str) else key)
        if found is not None:
            for read in tuple(found) if isinstance(found, dict) else (found,):
                self._end(read)
                self._invalidations += 1

    def clear(self) -> None:
        """Drop everything, and begin the statistics anew."""
        self._end_all()
        self._begin_counting()

    # What the clients tell.

    def join(self, user: object, group: Hashable, *, has_ended: Callable[[Any], bool] = lambda _: False) -> None:
        """Be used by a client from now on.

        Args:
            user: The client.
            group: What has to be the same for all who use it at a time.
            has_ended: Whether a group is over, so that those of it can't use it any more, nor say so.

        Raises:
            RuntimeError: It is not.
        """
        for other, its_group in list(self._users.items()):
            if has_ended(its_group):
                self.leave(other)
        if any(other != group for other in self._users.values()):
            raise RuntimeError(
                "the client_side_cache is used by clients on another event loop: make one for each event loop"
            )
        self._users[user] = group

    def leave(self, user: object) -> None:
        """Be used by a client no more. Without any it is cleared. Idempotent."""
        if self._users.pop(user, None) is not None and not self._users:
            self.clear()

    def space(self, kind: Hashable) -> Space:
        """Return what stands for all replies of a kind. For as long as somebody has it, everybody gets the same."""
        space = self._spaces.get(kind)
        if space is None:
            self._spaces[kind] = space = Space(b"%d" % self._spaces_made)
            self._spaces_made += 1
        return space

    def begin(self, read: Read, keys: Keys) -> Load:
        """Return the load of a command that is about to be sent: there is no reply, and nobody else asks for it.

        Args:
            read: What its reply will be found by.
            keys: The Redis keys that it depends on.
        """
        load = Load()
        load.read = read
        load.keys = keys
        load.source = None
        load.state = PENDING
        self.loads[read] = load
        for key in each_of(keys):
            if self._by_key.setdefault(key, read) is not read:
                self._add(key, read)
        return load

    def store(self, load: Load, reply: Any, source: object, ends_at: float, load_time: float) -> None:
        """Keep the reply to a load, unless something has ended that before.

        Args:
            load: The load.
            reply: The raw reply; nobody may change it any more.
            source: What will know of changes of its keys.
            ends_at: When it ends, on the clients' clock; ``NEVER``: not by time.
            load_time: How long the load took, in seconds.
        """
        self._load_successes += 1
        self._total_load_time += load_time
        if load.state != PENDING:
            return
        read, keys, options = load.read, load.keys, self.options
        if isinstance(keys, bytes):
            text, size = len(keys), _OVERHEAD + _OVERHEAD_OF_KEY
        else:
            text, size = sum(map(len, keys)), _OVERHEAD + _OVERHEAD_OF_KEY * len(keys)
        size += text + (len(read) if type(read) is bytes else _OVERHEAD_OF_TEXT + text)
        if type(reply) is bytes:
            is_copied = False
            size += len(reply)
        else:
            is_copied = type(reply) in CONTAINERS
            size += size_of_reply(reply)
        if size > options.max_bytes:  # for which all others would have to go, in vain
            self._evictions += 1
            self._end(read)
            return
        load.state = STORED
        del self.loads[read]
        self.entries[read] = (ends_at, reply, is_copied, keys, id(source), size)
        self._bytes += size
        while self._bytes > options.max_bytes or len(self.entries) > options.max_entries:
            self._evictions += 1
            self._end(next(iter(self.entries)))

    def fail(self, load: Load, *, load_time: float) -> None:
        """Note that a load has failed, unless it was stored."""
        if load.state != STORED:
            self._load_failures += 1
            self._total_load_time += load_time
            self.drop(load)

    def drop(self, load: Load) -> None:
        """Let a load not be stored. Idempotent."""
        if load.state == PENDING:
            self._end(load.read)

    def expired(self, read: Read) -> None:
        """Drop a reply whose time is over."""
        self._evictions += 1
        self._end(read)

    def lose(self, source: object) -> list[Load]:
        """Drop all of which a connection would have told the changes. Returns the loads among that."""
        number = id(source)
        for read in [read for read, entry in self.entries.items() if entry[4] == number]:
            self._end(read)
        lost = [load for load in self.loads.values() if load.source is source]
        for load in lost:
            self._end(load.read)
        return lost

    def _end(self, read: Read) -> None:
        load = self.loads.pop(read, None)
        if load is None:
            _, _, _, keys, _, size = self.entries.pop(read)
            self._bytes -= size
        else:
            load.state = ENDED
            keys = load.keys
        for key in each_of(keys):
            found = self._by_key[key]
            if not isinstance(found, dict):
                del self._by_key[key]
            else:
                del found[read]
                if len(found) == 1:
                    (self._by_key[key],) = found

    def _end_all(self) -> None:
        for load in self.loads.values():
            load.state = ENDED
        self.loads.clear()
        self.entries.clear()
        self._by_key.clear()
        self._bytes = 0

    def _add(self, key: bytes, read: Read) -> None:
        """Note one more read that depends on a key."""
        found = self._by_key[key]
        if isinstance(found, dict):
            found[read] = None
        else:
            self._by_key[key] = {found: None, read: None}
