"""How long commands take, by name and bucket."""

from __future__ import annotations

import threading

import pytest

from aioredis_kit.statistics import DURATION_BOUNDS, Durations, merged
from aioredis_kit.transport.command import Command, Query
from aioredis_kit.transport.timings import Timings


def command(*args, written=0.0):
    made = Command()
    made.args, made.written = args, (written, 0, 0)
    return made


def counts(**places):
    """Return counts by bucket: ``at_3=2`` is two in the fourth."""
    found = [0] * (len(DURATION_BOUNDS) + 1)
    for place, count in places.items():
        found[int(place.removeprefix("at_"))] = count
    return tuple(found)


def test_by_name_and_bucket():
    timings = Timings()
    timings.note([command("GET", "a", written=10.0), command("SET", "a", "1", written=9.0)], 10.0)
    timings.note([command("GET", "b", written=10.0), command("GET", "c", written=10.0)], 10.25)
    assert timings.durations(str) == {
        "GET": Durations(counts(at_0=1, at_10=2), pytest.approx(0.5)),
        "SET": Durations(counts(at_12=1), pytest.approx(1.0)),
    }


def test_each_bound_is_in_its_bucket_and_all_that_is_longer_in_the_last():
    timings = Timings()
    for bound in DURATION_BOUNDS:
        timings.note([command("GET", written=0.0)], bound)
    timings.note([command("GET", written=0.0)], 100.0)
    assert timings.durations(str)["GET"].counts == (1,) * (len(DURATION_BOUNDS) + 1)


def test_commands_of_one_write_share_the_moment():
    timings = Timings()
    first, second = command("GET", written=1.0), command("GET", written=1.0)
    second.written = first.written
    timings.note([first, second, command("GET", written=0.0)], 1.0)
    assert timings.durations(str)["GET"] == Durations(counts(at_0=2, at_12=1), 1.0)


def test_the_clients_own_are_not_counted():
    timings = Timings()
    query = Query(b"")
    query.written = (0.0, 0, 0)
    timings.note([query, command("GET")], 1.0)
    assert list(timings.durations(str)) == ["GET"]


def test_spellings_are_put_together():
    timings = Timings()
    timings.note([command("GET"), command("get"), command(b"GET")], 0.0)
    names = {"GET": "GET", "get": "GET", b"GET": "GET"}
    assert timings.durations(names.get) == {"GET": Durations(counts(at_0=3), 0.0)}


def test_names_are_bounded():
    timings = Timings()
    timings.note([command(f"C{number}") for number in range(5000)], 0.0)
    found = timings.durations(str)
    assert len(found) == 1025
    assert found[""].counts[0] == 5000 - 1024


def test_durations_are_added_up():
    one, two = {"GET": Durations((1, 2), 0.5)}, {"GET": Durations((3, 4), 1.0), "SET": Durations((0, 1), 2.0)}
    assert merged([one, two]) == {"GET": Durations((4, 6), 1.5), "SET": Durations((0, 1), 2.0)}
    assert merged([]) == {}


def test_it_is_read_while_it_grows():
    timings = Timings()
    failures = []

    def read():
        try:
            for _ in range(300):
                timings.durations(str)
        except BaseException as error:  # noqa: BLE001  # for the test to see
            failures.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    number = 0
    while thread.is_alive():
        timings.note([command(f"C{number % 900}")], 0.0)
        number += 1
    thread.join()
    assert failures == []
