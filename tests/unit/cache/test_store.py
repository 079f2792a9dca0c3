"""The replies that are kept: limits, what ends them, and what a load that is under way may not do any more."""

from __future__ import annotations

import random
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aioredis_kit.cache.options import CacheOptions
from aioredis_kit.cache.store import ENDED, NEVER, PENDING, ClientSideCache, each_of


def make(**options):
    return ClientSideCache(CacheOptions(**options))


def begin(cache, command, *keys):
    return cache.begin(command, tuple(key.encode() for key in keys or (command,)))


def store(cache, command, reply=b"v", *, keys=(), source="link"):
    cache.store(begin(cache, command, *keys), reply, source, ends_at=NEVER, load_time=0.5)


def read(cache, command):
    """What a client does with a read, in short."""
    if command in cache.entries:
        cache.hits += 1
        if cache.is_lru:
            cache.entries.move_to_end(command)
    else:
        cache.misses += 1
        store(cache, command)


def kept(cache):
    return list(cache.entries)


# -- what goes --------------------------------------------------------------------------------------


def test_what_depends_on_a_key_ends_with_it():
    cache = make()
    store(cache, "get a", keys=("a",))
    store(cache, "mget a b", keys=("a", "b"))
    store(cache, "get b", keys=("b",))
    cache.invalidate("a")
    assert kept(cache) == ["get b"]
    cache.invalidate(b"b")
    assert kept(cache) == []
    cache.invalidate("c")
    assert cache.stats().invalidations == 3
    assert cache.stats().bytes == 0
    assert not cache._by_key


def test_a_flush_ends_all():
    cache = make()
    store(cache, "a")
    begin(cache, "b")
    cache.invalidate(None)
    assert kept(cache) == []
    assert cache.stats().invalidations == 2


def test_a_connection_that_is_lost_ends_what_it_has_read():
    cache = make()
    store(cache, "a", source="one")
    store(cache, "b", source="two")
    loading = begin(cache, "c")
    loading.source = "one"
    cache.lose("one")
    assert kept(cache) == ["b"]
    cache.store(loading, b"v", "one", ends_at=NEVER, load_time=0)
    assert kept(cache) == ["b"]


@pytest.mark.pins("case-104", "B18")
@pytest.mark.parametrize("change", ["key", "flush", "clear", "loss"])
def test_a_load_under_way_is_not_stored_behind_a_change(change):
    """Other than in node-redis not behind a flush either, and not behind the loss of the connection."""
    cache = make()
    load = begin(cache, "a")
    load.source = "link"
    {
        "key": lambda: cache.invalidate(b"a"),
        "flush": lambda: cache.invalidate(None),
        "clear": cache.clear,
        "loss": lambda: cache.lose("link"),
    }[change]()
    assert not cache.loads
    cache.store(load, b"old", "link", ends_at=NEVER, load_time=0)
    assert kept(cache) == []
    assert cache.stats().load_successes == 1


@pytest.mark.pins("B18")
def test_a_load_that_fails_late_leaves_a_newer_entry_alone():
    cache = make()
    late = begin(cache, "a")
    cache.invalidate(b"a")
    store(cache, "a", b"new")
    cache.fail(late, load_time=1)
    cache.drop(late)
    assert b"new" in cache.entries["a"]


def test_a_load_that_fails_is_not_kept():
    cache = make()
    load = begin(cache, "a")
    cache.fail(load, load_time=2.0)
    cache.fail(load, load_time=2.0)
    assert not cache.loads
    assert (cache.stats().load_failures, cache.stats().total_load_time) == (2, 4.0)


# -- limits -----------------------------------------------------------------------------------------


@pytest.mark.pins("case-94")
def test_the_oldest_goes():
    cache = make(max_entries=10)
    for number in (*range(11), 0):
        read(cache, str(number))
    assert (cache.misses, cache.hits) == (12, 0)


@pytest.mark.pins("case-95")
def test_what_was_read_lately_stays():
    cache = make(max_entries=10)
    for number in (*range(5), 0, *range(5, 11), 0):
        read(cache, str(number))
    assert (cache.misses, cache.hits) == (11, 2)


def test_first_in_first_out():
    cache = make(max_entries=10, eviction="fifo")
    for number in (*range(5), 0, *range(5, 11), 0):
        read(cache, str(number))
    assert (cache.misses, cache.hits) == (12, 1)


@pytest.mark.pins("case-101")
def test_the_published_scenario():
    cache = make(max_entries=2)
    for command in "ABABCAC":
        read(cache, command)
    cache.invalidate("A")
    read(cache, "A")
    numbers = cache.stats()
    assert (numbers.hits, numbers.misses, numbers.load_successes, numbers.evictions) == (3, 5, 5, 2)
    assert numbers.hit_rate() == 3 / 8


def test_loads_are_not_among_those_that_have_to_go():
    cache = make(max_entries=1)
    loading = begin(cache, "a")
    store(cache, "b")
    store(cache, "c")
    assert kept(cache) == ["c"]
    cache.store(loading, b"v", "link", ends_at=NEVER, load_time=0)
    assert kept(cache) == ["a"]
    assert cache.stats().evictions == 2


def test_a_reply_that_is_larger_than_all_is_not_kept():
    cache = make(max_bytes=1500)
    store(cache, "a")
    store(cache, "b", b"x" * 2000)
    assert kept(cache) == ["a"]


def test_bytes_are_those_of_what_is_kept():
    cache = make(max_bytes=10_000)
    for number in range(100):
        store(cache, str(number), b"x" * 1000)
    assert 8_000 < cache.stats().bytes <= 10_000
    assert cache.stats().entries == len(cache.entries) < 10
    cache.clear()
    assert cache.stats().bytes == 0


@pytest.mark.pins("P5")
def test_the_limit_is_what_memory_it_takes(is_long):
    """Replies of mixed sizes and shapes, far more than fit: within 20 %."""
    limit, count = (10_000_000, 1_000_000) if is_long else (1_000_000, 12_000)
    cache = make(max_bytes=limit, max_entries=10**9)
    randomly = random.Random(7)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(count):
        size = randomly.choice((0, 10, 100, 1000, 5000))
        reply = bytes(size) if number % 3 else [bytes(10) for _ in range(size // 50)]
        key = f"key:{number}".encode()
        payload = b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n" % (len(key), key)
        read = payload + b"1" if number % 2 else ("GET", f"key:{number}", b"1")
        cache.store(cache.begin(read, key), reply, None, ends_at=NEVER, load_time=0)
    took = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert cache.stats().bytes <= limit
    assert 0.8 * limit < took < 1.2 * limit


# -- who uses it ------------------------------------------------------------------------------------


@pytest.mark.pins("case-96")
def test_clearing_begins_the_statistics_anew():
    cache = make()
    read(cache, "a")
    cache.invalidate(None)
    read(cache, "a")
    assert cache.stats().misses == 2
    cache.clear()
    read(cache, "a")
    assert cache.stats().misses == 1


@pytest.mark.pins("case-100")
def test_the_last_one_to_leave_clears_it():
    cache = make()
    cache.join("one", "loop")
    cache.join("two", "loop")
    read(cache, "a")
    cache.leave("one")
    assert kept(cache) == ["a"]
    cache.leave("one")
    cache.leave("somebody else")
    assert kept(cache) == ["a"]
    cache.leave("two")
    assert cache.stats() == make().stats()


def test_one_event_loop_at_a_time():
    cache = make()
    cache.join("one", "loop")
    with pytest.raises(RuntimeError, match="another event loop"):
        cache.join("two", "other loop")
    cache.leave("one")
    cache.join("two", "other loop")


def test_those_of_an_event_loop_that_is_over_are_in_nobodys_way():
    """Nor is anything left of what they had read: nobody would tell any more that it has changed."""
    cache = make()
    cache.join("one", "loop")
    store(cache, "a")
    cache.join("two", "other loop", has_ended=lambda loop: loop == "loop")
    assert not cache.entries
    cache.join("three", "other loop")


# -- all of it --------------------------------------------------------------------------------------

SOURCES = [object() for _ in range(4)]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["begin", "store", "fail", "drop", "end", "hit", "key", "flush", "lose", "clear"]),
        st.integers(0, 5),
        st.integers(0, 3),
    ),
    max_size=60,
)


@given(steps=STEPS, options=st.sampled_from([{}, {"max_entries": 2}, {"max_bytes": 1200}, {"eviction": "fifo"}]))
@settings(max_examples=300)
def test_whatever_happens_the_books_are_right(steps, options):
    """Sizes and counts are those of what is there; each key leads to all that depends on it; nothing old comes back."""
    cache = make(**options)
    loads, doomed = [], set()
    for step, number, more in steps:
        read = f"c{number}"
        match step:
            case "begin" if read not in cache.entries and read not in cache.loads:
                keys = b"k%d" % number if number == more else (b"k%d" % number, b"k%d" % more)
                loads.append(cache.begin(read, keys))
                loads[-1].source = SOURCES[more]
            case "store" if loads:
                load = loads.pop(number % len(loads))
                was_there = load.read in cache.entries
                cache.store(load, [b"x"] * more, SOURCES[more], ends_at=NEVER, load_time=0)
                assert load not in doomed or (load.read in cache.entries) == was_there
            case "fail" if loads:
                cache.fail(loads.pop(number % len(loads)), load_time=0)
            case "drop" if loads:
                cache.drop(loads[number % len(loads)])
            case "end" if read in cache.entries:
                cache.expired(read)
            case "hit" if read in cache.entries:
                cache.entries.move_to_end(read)
            case "key":
                doomed |= {each for each in loads if b"k%d" % number in each_of(each.keys)}
                cache.invalidate(b"k%d" % number)
            case "flush" | "clear":
                doomed |= set(loads)
                cache.invalidate(None) if step == "flush" else cache.clear()
            case "lose":
                doomed |= {each for each in loads if each.source is SOURCES[more]}
                cache.lose(SOURCES[more])
        assert all(each.state == ENDED for each in loads if each in doomed)
        check_books(cache)


def check_books(cache):
    keys = {read: each_of(entry[3]) for read, entry in cache.entries.items()}
    keys |= {read: each_of(load.keys) for read, load in cache.loads.items()}
    assert len(keys) == len(cache.entries) + len(cache.loads)
    assert all(load.state == PENDING and load.read == read for read, load in cache.loads.items())
    numbers = cache.stats()
    assert (numbers.entries, numbers.bytes) == (len(cache.entries), sum(entry[5] for entry in cache.entries.values()))
    assert numbers.bytes <= cache.options.max_bytes
    assert numbers.entries <= cache.options.max_entries
    found = {key: set(reads) if isinstance(reads, dict) else {reads} for key, reads in cache._by_key.items()}
    wanted = {}
    for read, its_keys in keys.items():
        for key in its_keys:
            wanted.setdefault(key, set()).add(read)
    assert found == wanted
