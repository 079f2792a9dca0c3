"""Rules about the server."""

from __future__ import annotations

import pytest

from aioredis_kit.cli.doctor.findings import Severity
from tests.support.doctor import everything, found, healthy, server


def codes(options=None, **changes):
    """Return what is found of such a server, by code, with its severity."""
    return {
        code: each.severity.name for code, each in found(healthy(server=server(**changes), options=options)).items()
    }


def test_a_server_that_is_well():
    assert codes() == {}
    (told,) = (each for each in everything(healthy()) if each.code == "server")
    assert told.what == "Valkey 9.1.2, standalone, primary, up for 10 days"
    assert told.why == "memory 1.0 MiB of no limit, 12 of 10000 clients"


def test_a_server_that_tells_nothing_of_itself():
    silent = server(name="", version="", mode="", role="", clock_ahead=None)
    object.__setattr__(silent, "info", {})
    object.__setattr__(silent, "config", {})
    assert found(healthy(server=silent)) == {}


@pytest.mark.parametrize(
    ("used", "policy", "keys", "expected"),
    [
        (100, "noeviction", {}, {"memory_full": "ERROR"}),
        (101, "noeviction", {}, {"memory_full": "ERROR"}),
        (95, "noeviction", {}, {"memory_nearly_full": "WARNING"}),
        (80, "noeviction", {}, {}),
        (100, "allkeys-lru", {}, {"evicting": "NOTE"}),
        (100, "volatile-lru", {"db0": "keys=5,expires=5,avg_ttl=10"}, {"evicting": "NOTE"}),
        (100, "volatile-lru", {"db0": "keys=5,expires=0,avg_ttl=0"}, {"memory_full": "ERROR"}),
        (100, "volatile-lru", {"db0": "{'keys': 5, 'expires': 0}"}, {"memory_full": "ERROR"}),
        (80, "allkeys-lru", {}, {}),
    ],
)
def test_memory(used, policy, keys, expected):
    """A policy that evicts keys with an end is none where no key has one."""
    info = {"used_memory": f"{used}", **keys}
    assert codes(info=info, config={"maxmemory": "100", "maxmemory-policy": policy}) == expected


def test_memory_without_the_right_to_config():
    """INFO tells it as well."""
    info = {"used_memory": "100", "maxmemory": "100", "maxmemory_policy": "noeviction"}
    assert codes(info=info, config={"maxmemory": "", "maxmemory-policy": ""}) == {"memory_full": "ERROR"}


@pytest.mark.parametrize(
    ("info", "config", "expected"),
    [
        ({"rdb_last_bgsave_status": "err"}, {}, {"persistence_fails": "ERROR"}),
        ({"rdb_last_bgsave_status": "err"}, {"stop-writes-on-bgsave-error": "no"}, {}),
        ({"aof_last_write_status": "err"}, {}, {"persistence_fails": "ERROR"}),
        ({"min_slaves_good_slaves": "0"}, {"min-replicas-to-write": "1"}, {"too_few_replicas": "ERROR"}),
        ({"min_slaves_good_slaves": "1"}, {"min-replicas-to-write": "1"}, {}),
    ],
)
def test_what_makes_it_refuse_writes(info, config, expected):
    assert codes(info=info, config=config) == expected


@pytest.mark.parametrize(
    ("connected", "most", "refused", "expected"),
    [
        (12, 10_000, 0, {}),
        (12, 10_000, 7, {"clients_were_refused": "NOTE"}),
        (9_000, 10_000, 0, {"clients_nearly_all": "WARNING"}),
        (12, 50, 0, {"clients_too_many": "WARNING"}),
    ],
)
def test_clients(connected, most, refused, expected):
    info = {"connected_clients": f"{connected}", "rejected_connections": f"{refused}"}
    assert codes(info=info, config={"maxclients": f"{most}"}) == expected


@pytest.mark.parametrize(
    ("timeout", "interval", "is_told"),
    [(0, 30, False), (300, 30, False), (30, 30, True), (20, 30, True), (300, None, True)],
)
def test_the_servers_timeout_and_pings(timeout, interval, is_told):
    """A connection that is pinged within it is never idle for so long."""
    told = codes({"ping_interval": interval}, config={"timeout": f"{timeout}"})
    assert told == ({"idle_timeout": "WARNING"} if is_told else {})


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ("normal 1048576 0 0 pubsub 33554432 8388608 60", {"output_buffer_small": "WARNING"}),
        ("normal 0 1048576 10 pubsub 33554432 8388608 60", {"output_buffer_small": "WARNING"}),
        ("normal 0 0 0 pubsub 33554432 65536 60", {"pubsub_buffer_small": "WARNING"}),
        ("normal 0 0 0 pubsub 0 0 0", {}),
        ("", {}),
        ("nonsense of some other server", {}),
    ],
)
def test_output_buffers(limits, expected):
    assert codes(config={"client-output-buffer-limit": limits}) == expected


def test_a_replica():
    seen = healthy(server=server(role="replica", info={"master_host": "10.0.0.9", "master_port": "6379"}))
    finding = found(seen)["replica"]
    assert finding.severity is Severity.WARNING
    assert "10.0.0.9:6379" in finding.why
    lonely = {"master_link_status": "down", "master_link_down_since_seconds": "90"}
    assert "for 90 s" in found(healthy(server=server(role="replica", info=lonely)))["replica_without_primary"].why


def test_a_sentinel():
    assert codes(mode="sentinel") == {"sentinel": "ERROR"}


@pytest.mark.parametrize(
    ("cluster", "expected"),
    [
        ({"cluster_state": "ok", "cluster_size": "3"}, {"cluster": "ERROR"}),
        ({"cluster_state": "ok", "cluster_size": "1"}, {"cluster_of_one": "NOTE"}),
        ({"cluster_state": "fail", "cluster_size": "3"}, {"cluster_down": "ERROR", "cluster": "ERROR"}),
        ({}, {"cluster": "ERROR"}),
    ],
)
def test_a_cluster(cluster, expected):
    assert codes(mode="cluster", cluster=cluster) == expected


def test_a_server_that_was_just_started():
    assert codes(info={"uptime_in_seconds": "12"}) == {"just_started": "NOTE"}


@pytest.mark.parametrize(
    ("ahead", "has_token", "expected"),
    [
        (5, True, {}),
        (-30, True, {"clocks_differ": "WARNING"}),
        (30, False, {}),
        (90, False, {"clocks_differ": "NOTE"}),
    ],
)
def test_clocks(ahead, has_token, expected):
    options = {"credential_provider": lambda: ("ada", "s3cret-of-ada")} if has_token else None
    assert codes(options, clock_ahead=ahead) == expected


def test_what_it_does_not_tell():
    seen = healthy(server=server(refused={"INFO": "no permissions", "CONFIG GET": "no permissions"}))
    finding = found(seen)["not_told"]
    assert finding.severity is Severity.NOTE
    assert "INFO and CONFIG GET" in finding.what


def test_a_server_that_stops_answering_meanwhile():
    assert codes(late="INFO timed out") == {"stopped_answering": "ERROR"}
