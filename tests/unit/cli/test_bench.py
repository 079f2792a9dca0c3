"""What a benchmark plans, and what its rounds come to."""

from __future__ import annotations

from array import array

import pytest
from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection

from aioredis_kit import create_client
from aioredis_kit.cli.bench.clients import check_comparable, redis_py
from aioredis_kit.cli.bench.figures import OURS, REDIS_PY, Round, compared, figures_of, plan_of
from aioredis_kit.cli.bench.rounds import PREFIX, Keys
from aioredis_kit.cli.output import ExitCode
from aioredis_kit.exceptions import ConfigurationError
from aioredis_kit.options import resolve_options
from tests.support.cli import document, invoke


def plan(**changes):
    return plan_of(**({"command": "get", "callers": 100, "size": 64, "seconds": 3.0, "is_alone": False} | changes))


@pytest.mark.parametrize(
    ("seconds", "rounds", "length"), [(0.1, 1, 0.1), (0.5, 1, 0.5), (3, 6, 0.5), (10, 20, 0.5), (300, 20, 15)]
)
def test_the_time_is_spent_in_short_rounds(seconds, rounds, length):
    made = plan(seconds=seconds)
    assert (made.rounds, made.seconds) == (rounds, length)
    assert made.steps == 2 * (rounds + 1)
    assert made.clients == (OURS, REDIS_PY)
    assert plan(is_alone=True).clients == (OURS,)


@pytest.mark.parametrize(("callers", "timed"), [(1, 1), (16, 16), (100, 17), (10_000, 16)])
def test_only_some_callers_are_timed(callers, timed):
    stride = plan(callers=callers).stride
    assert sum(number % stride == 0 for number in range(callers)) == timed


def test_keys_are_of_this_run_alone_and_expire_after_it():
    made = plan(callers=3, size=5, seconds=3)
    one, other = Keys.of(made), Keys.of(made)
    assert not set(one.names) & set(other.names)
    assert all(name.startswith(PREFIX) for name in one.names)
    assert (len(one.names), len(one.value)) == (3, 5)
    assert one.lifetime > made.steps * made.seconds
    assert one.value.hex() not in repr(one)


def test_figures_are_medians_of_rounds_and_percentiles_of_all():
    latencies = array("d", [number / 1000 for number in range(1, 501)])
    others = array("d", [number / 1000 for number in range(501, 1001)])
    figures = figures_of([Round(100, 1.0, 0.5, latencies), Round(300, 1.0, 0.9, others), Round(200, 1.0, 0.2)])
    assert figures.commands == 600
    assert figures.throughput == 200
    assert figures.cpu == pytest.approx(0.003)
    assert figures.percentiles == {"p50": 0.5, "p99": 0.99, "p999": 0.999}
    assert figures_of([Round(1, 1.0, 0.5, array("d", [0.2]))]).percentiles == {"p50": 0.2, "p99": 0.2, "p999": 0.2}


def test_clients_are_compared_round_by_round():
    ours = [Round(400, 1.0, 0.4), Round(100, 1.0, 0.1), Round(900, 1.0, 0.9)]
    theirs = [Round(100, 1.0, 0.5), Round(50, 1.0, 0.5)]  # interrupted before the third
    comparison = compared(ours, theirs)
    assert (comparison.throughput, comparison.lowest, comparison.highest) == (3, 2, 4)
    assert comparison.cpu == pytest.approx((0.001 / 0.005 + 0.001 / 0.01) / 2)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--callers", "0"),
        ("--callers", "10001"),
        ("--callers", "many"),
        ("--size", "-1"),
        ("--size", "1e3"),
        ("--seconds", "nan"),
        ("--seconds", "inf"),
        ("--seconds", "0"),
        ("--seconds", "1000000"),
        ("--command", "flushall"),
        ("--beside", "coredis"),
        ("--timeout", "-1"),
        ("--callers", "1000", "--size", "100000"),
        ("--no-such-option",),
    ],
)
def test_nonsense_is_refused_before_anything_is_connected(arguments):
    result = invoke("bench", "redis://127.0.0.1:1", *arguments)
    assert result.exit_code == ExitCode.MISUSED
    assert result.stdout == ""


def test_what_would_store_too_much_says_how_much():
    error = document(invoke("bench", "redis://h", "--json", "--callers", "1000", "--size", "100000"))["error"]
    assert "--callers 1000 with --size 100000 would store 95 MiB" in error["message"]


def test_credentials_of_a_provider_are_not_redis_pys():
    with pytest.raises(ConfigurationError, match="--alone"):
        check_comparable(resolve_options(None, {"credential_provider": lambda: ("ada", "s3cret-of-ada")}))


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("redis://:s3cret-of-ada@cache:1/2", Connection),
        ("rediss://cache?ssl_check_hostname=false", SSLConnection),
        ("unix:///run/redis.sock", UnixDomainSocketConnection),
    ],
)
@pytest.mark.parametrize("callers", [100, 101])
async def test_redis_py_has_the_same_options_and_its_own_connections(url, kind, callers):
    client = create_client(url)
    options = resolve_options(url, {})
    async with redis_py(client, options, callers) as peer:
        pool = peer.connection_pool
        assert pool.connection_class is kind
        assert pool.max_connections == (100 if callers == 100 else 50)
        assert pool.connection_kwargs["db"] == options.db
        assert pool.connection_kwargs["password"] == options.password
        assert not pool.connection_kwargs.keys() & {"retry", "health_check_interval"}  # its own
    client.destroy()
