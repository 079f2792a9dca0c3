"""Facts for the doctor's rules, and what the rules make of them."""

from __future__ import annotations

from aioredis_kit.cli.doctor.diagnosis import diagnose
from aioredis_kit.cli.doctor.facts import Dial, Facts, Features, Greeting, Latency, LookUp, Permission, Rights, Server
from aioredis_kit.cli.doctor.wants import WANTS
from aioredis_kit.config import ClientConfiguration

NOW = 1_800_000_000.0
DAY = 86_400.0
LOCALHOST = LookUp(addresses=("127.0.0.1",), seconds=0.001)


def facts(url="redis://localhost:6379", *, options=None, **seen):
    """Return what was seen: nothing but what is given. ``options`` replace what the URL says."""
    configuration = ClientConfiguration.from_string(url, **options or {})
    given = {"address": "localhost:6379", "now": NOW, "timeout": 10.0, "seconds": 0.1, **seen}
    return Facts(options=configuration.options, explanation=configuration.explain(), **given)


def healthy(url="redis://localhost:6379", *, options=None, **seen):
    """Return what is seen of a server that is well, but for what is given."""
    well = {
        "look_up": LOCALHOST,
        "dials": (Dial(address="127.0.0.1:6379", seconds=0.0004, round_trip=0.0002),),
        "greeting": Greeting(seconds=0.0005, is_ready=True, protocol=3),
        "server": server(),
        "rights": Rights(user="default", permissions=dict.fromkeys(NAMES, Permission.GRANTED), is_dry=True),
        "latency": Latency(samples=(0.0004,) * 99 + (0.0005,)),
        "features": Features(is_tracking=True),
    }
    return facts(url, options=options, **well | seen)


NAMES = tuple(want.name for want in WANTS)
INFO = {
    "uptime_in_seconds": "864000",
    "used_memory": "1048576",
    "connected_clients": "12",
    "role": "master",
}
CONFIG = {
    "maxmemory": "0",
    "maxmemory-policy": "noeviction",
    "timeout": "0",
    "maxclients": "10000",
    "client-output-buffer-limit": "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60",
    "min-replicas-to-write": "0",
    "stop-writes-on-bgsave-error": "yes",
}


def server(*, info=(), config=(), **changes):
    """Return what a server that is well says of itself, but for what is given."""
    said = {"name": "Valkey", "version": "9.1.2", "mode": "standalone", "role": "master", "clock_ahead": 0.001}
    return Server(info=INFO | dict(info), config=CONFIG | dict(config), **said | changes)


def found(seen):
    """Return what is not well, by code."""
    return {each.code: each for each in everything(seen) if each.severity.name != "WELL"}


def everything(seen):
    """Return all findings, in order."""
    return [each for verdict in diagnose(seen) for each in verdict.findings]
