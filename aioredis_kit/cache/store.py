"""The replies that are kept, what they depend on, and what ends them.

Rules of this file:

1. An entry is there from the moment in which its load begins: whatever changes one of its keys before the reply is
   stored, ends it like one that is stored. So a reply that is older than a change is never stored behind it.
2. An entry that has ended is found by nobody any more. Whoever waits for its load still gets the reply: that read began
   before the change.
3. What an entry is dropped for, it is itself: a load that ends late never touches a newer entry of the same command.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakValueDictionary

from aioredis_kit.cache.options import CacheOptions
from aioredis_kit.cache.replies import CONTAINERS, size_of_reply
from aioredis_kit.cache.statistics import CacheStatistics
from aioredis_kit.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

LOADING: Final = -math.inf
"""When an entry ends that has no reply yet: never found to be valid."""
NEVER: Final = math.inf
_OVERHEAD: Final = 340
"""What an entry costs beside its command, its keys and its reply, in bytes: itself, and its places in dictionaries."""
_OVERHEAD_OF_KEY: Final = 65
"""What one of its keys costs beside its text, in bytes."""


class Space:
    """Stands for all replies of one kind. Each view may have a time of its own, so there may be any number.

    Attributes:
        suffix: What the keys of their entries end with.
    """

    __slots__ = ("__weakref__", "suffix")

    def __init__(self, suffix: bytes) -> None:
        self.suffix = suffix


class Entry:
    """One command, and the reply to it.

    Attributes:
        key: What it is found by: the encoded command, and what it is read through.
        keys: The Redis keys that it depends on.
        reply: The raw reply, once it is there; not to be changed.
        ends_at: When it ends, on the clients' clock; ``LOADING`` before it is there.
        size: How much memory it takes, in bytes.
        source: What will know of changes of its keys: a connection's lane. ``None`` until that is known.
        is_kept: Whether it may be stored, or is: nothing has ended it.
        is_copied: Whether the reply is copied whenever it is handed out.
    """

    __slots__ = (
        "ends_at",
        "is_copied",
        "is_kept",
        "key",
        "keys",
        "reply",
        "size",
        "source",
    )

    key: bytes
    keys: tuple[bytes, ...]
    reply: Any
    ends_at: float
    size: int
    source: object
    is_kept: bool
    is_copied: bool


class ClientSideCache:
    """Replies that are kept, until the server says that one of their keys has changed.

    One object may serve several clients of one event loop: what one has read is a hit for the others, if they are the
    same user, on the same database of the same server, with the same decoding. When the last of them is closed it is
    cleared.

    Args:
        options: What is kept.

    Attributes:
        options: The same.
        entries: All entries, by what they are found by; in the order in which they have to go.
        joined: Who waits for which load, beside the one who began it.
    """

    def __init__(self, options: CacheOptions | None = None) -> None:
        if options is not None and not isinstance(options, CacheOptions):
            raise ConfigurationError(f"ClientSideCache takes CacheOptions, not {type(options).__name__!r}")
        self.options = options = options or CacheOptions()
        self.entries: OrderedDict[bytes, Entry] = OrderedDict()
        self.joined: dict[Entry, dict[Any, None]] = {}
        self.is_lru = options.eviction == "lru"
        self._by_key: dict[bytes, Entry | dict[Entry, None]] = {}
        self._loading = 0
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
            entries=len(self.entries) - self._loading,
            bytes=self._bytes,
        )

    def invalidate(self, key: str | bytes | None) -> None:
        """Drop what depends on a key, or with ``None`` everything. Statistics go on.

        Args:
            key: The key; text is encoded as UTF-8.
        """
        if key is None:
            for entry in list(self.entries.values()):
                self._drop(entry)
                self._invalidations += 1
            return
        found = self._by_key.get(key.encode() if isinstance(key, str) else key)
        if found is not None:
            for entry in (found,) if isinstance(found, Entry) else tuple(found):
                self._drop(entry)
                self._invalidations += 1

    def clear(self) -> None:
        """Drop everything, and begin the statistics anew."""
        for entry in list(self.entries.values()):
            self._drop(entry)
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

    def begin(self, key: bytes, keys: tuple[bytes, ...]) -> Entry:
        """Return the entry of a command that is about to be sent, and was not found.

        Args:
            key: What it is found by.
            keys: The Redis keys that it depends on.
        """
        entry = Entry()
        entry.key = key
        entry.keys = keys
        entry.ends_at = LOADING
        entry.source = None
        entry.is_kept = True
        self.entries[key] = entry
        self._loading += 1
        for each in keys:
            if self._by_key.setdefault(each, entry) is not entry:
                self._add(each, entry)
        return entry

    def store(self, entry: Entry, reply: Any, source: object, ends_at: float, load_time: float) -> None:
        """Keep the reply of a load that has ended, unless something has ended the entry before.

        Args:
            entry: The entry.
            reply: The raw reply; nobody may change it any more.
            source: What will know of changes of its keys.
            ends_at: When it ends, on the clients' clock; ``NEVER``: not by time.
            load_time: How long the load took, in seconds.
        """
        self._load_successes += 1
        self._total_load_time += load_time
        if not entry.is_kept:
            return
        self._loading -= 1
        entry.reply = reply
        entry.source = source
        entry.ends_at = ends_at
        size = _OVERHEAD + _OVERHEAD_OF_KEY * len(entry.keys) + 2 * len(entry.key)  # which has the keys in it
        if type(reply) is bytes:
            entry.is_copied = False
            size += len(reply)
        else:
            entry.is_copied = type(reply) in CONTAINERS
            size += size_of_reply(reply)
        entry.size = size
        self._bytes += size
        options, entries = self.options, self.entries
        if self._bytes > options.max_bytes or len(entries) - self._loading > options.max_entries:
            entries.move_to_end(entry.key)
            self._make_room(entry)

    def fail(self, entry: Entry, *, load_time: float) -> None:
        """Note that a load has failed. Idempotent."""
        if entry.ends_at == LOADING:
            self._load_failures += 1
            self._total_load_time += load_time
            self.drop(entry)

    def drop(self, entry: Entry) -> None:
        """Let an entry be found no more. Idempotent."""
        if entry.is_kept:
            self._drop(entry)

    def expired(self, entry: Entry) -> None:
        """Drop an entry whose time is over."""
        self._evictions += 1
        self._drop(entry)

    def lose(self, source: object) -> list[Entry]:
        """Drop all of which a connection would have told the changes, loads in flight included. Returns them."""
        lost = [each for each in self.entries.values() if each.source is source]
        for entry in lost:
            self._drop(entry)
        return lost

    def _make_room(self, newest: Entry) -> None:
        """Drop what has to go, until the limits hold."""
        options, entries = self.options, self.entries
        if newest.size > options.max_bytes:  # for which all others would have to go, in vain
            self._evictions += 1
            self._drop(newest)
        while self._bytes > options.max_bytes or len(entries) - self._loading > options.max_entries:
            oldest = next(iter(entries.values()))
            if oldest.ends_at == LOADING:
                entries.move_to_end(oldest.key)
                continue
            self._evictions += 1
            self._drop(oldest)

    def _drop(self, entry: Entry) -> None:
        entry.is_kept = False
        del self.entries[entry.key]
        if entry.ends_at == LOADING:
            self._loading -= 1
        else:
            self._bytes -= entry.size
        for key in entry.keys:
            found = self._by_key.get(key)
            if found is entry:
                del self._by_key[key]
            elif isinstance(found, dict):
                found.pop(entry, None)
                if not found:
                    del self._by_key[key]

    def _add(self, key: bytes, entry: Entry) -> None:
        """Note one more entry that depends on a key."""
        found = self._by_key[key]
        if isinstance(found, Entry):
            self._by_key[key] = {found: None, entry: None}
        else:
            found[entry] = None
