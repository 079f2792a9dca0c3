"""Rules about the server: what it is, and which of its settings and states hurt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aioredis_kit.cli.doctor.findings import Finding, Severity
from aioredis_kit.cli.doctor.wording import duration, size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aioredis_kit.cli.doctor.facts import Facts, Server, Settings

_NEARLY: Final = 0.9
"""Which part of a limit is near it."""
_YOUNG: Final = 300
"""A server that has been up for fewer seconds has just been started."""
_SMALL_BUFFER: Final = 2**20
"""Output that fewer bytes may wait in is lost in a burst of messages."""
_SMALL_REPLIES: Final = 64 * 2**20
"""All that many callers have asked for may wait in the buffer of one connection."""
_CLOCKS: Final = 10.0
"""Clocks so many seconds apart make tokens end too early or too late."""
_CLOCKS_AT_ALL: Final = 60.0
"""Clocks so many seconds apart are told anyway."""


def about_server(facts: Facts) -> Iterator[Finding]:
    """Judge what the server is, and its state."""
    server = facts.server
    if server is None:
        return
    kind = ", ".join(filter(None, (server.mode, {"master": "primary"}.get(server.role, server.role))))
    up = _number(server.info, "uptime_in_seconds")
    parts = [f"{server.name} {server.version}".strip() or "a server", kind, f"up for {duration(up)}" if up else ""]
    yield Finding(severity=Severity.WELL, code="server", what=", ".join(filter(None, parts)), why=_load(server))
    yield from _about_mode(server)
    if server.mode == "sentinel":
        return
    yield from _about_role(server)
    yield from _about_memory(server)
    yield from _about_writes(server)
    yield from _about_clients(server, facts)
    yield from _about_idle(server, facts)
    yield from _about_buffers(server)
    yield from _about_restart(server)
    yield from _about_clock(server, facts)
    yield from _about_silence(server)


def _load(server: Server) -> str:
    """Say how much of it is in use."""
    most, clients = _setting(server, "maxmemory"), _setting(server, "maxclients")
    parts = []
    if used := _number(server.info, "used_memory"):
        parts.append(f"memory {size(used)} of {size(most) if most else 'no limit'}")
    if connected := _number(server.info, "connected_clients"):
        parts.append(f"{connected:.0f} of {clients:.0f} clients" if clients else f"{connected:.0f} clients")
    if "instantaneous_ops_per_sec" in server.info:
        parts.append(f"{_number(server.info, 'instantaneous_ops_per_sec'):.0f} commands/s")
    return ", ".join(parts)


def _about_mode(server: Server) -> Iterator[Finding]:
    if server.mode == "sentinel":
        yield Finding(
            severity=Severity.ERROR,
            code="sentinel",
            what="this is a sentinel, not the server with the data",
            why="it says so; it answers questions about primaries, and no commands on keys",
            advice=(
                "ask it for the primary's address (SENTINEL GET-MASTER-ADDR-BY-NAME) and name that: this client does "
                "not follow sentinels"
            ),
        )
    if server.mode != "cluster":
        return
    if server.cluster.get("cluster_state", "ok") != "ok":
        yield Finding(
            severity=Severity.ERROR,
            code="cluster_down",
            what="the cluster is down",
            why=f"its state is {server.cluster['cluster_state']}: commands on keys are answered with CLUSTERDOWN",
            advice="CLUSTER NODES tells which node is away, and CLUSTER SHARDS which slots nobody has",
        )
    size_of_cluster = _number(server.cluster, "cluster_size")
    if size_of_cluster == 1:
        yield Finding(
            severity=Severity.NOTE,
            code="cluster_of_one",
            what="this is a node of a cluster, and the only one with slots",
            why="a client for one server, as this is, can use it until there are more",
            advice="commands on several keys need them in one slot, as in every cluster",
        )
        return
    others = f" of {size_of_cluster:.0f} that have slots" if size_of_cluster else ""
    yield Finding(
        severity=Severity.ERROR,
        code="cluster",
        what=f"this is one node{others} of a cluster, and this client is for one server",
        why="commands on keys in the slots of other nodes are answered with MOVED, which it does not follow",
        advice="use a server that is no cluster, an endpoint of the service that hides it, or a client for clusters",
    )


def _about_role(server: Server) -> Iterator[Finding]:
    info = server.info
    if server.role != "replica":
        return
    host, port = info.get("master_host", ""), info.get("master_port", "")
    yield Finding(
        severity=Severity.WARNING,
        code="replica",
        what="this is a replica: writes are answered with READONLY",
        why=f"its primary is {host}:{port}" if host else "it says so",
        advice="name the primary, or its name in DNS that follows it; a replica is for those who only read",
    )
    if info.get("master_link_status") == "down":
        down = _number(info, "master_link_down_since_seconds")
        yield Finding(
            severity=Severity.WARNING,
            code="replica_without_primary",
            what="this replica has no link to its primary: what is read is old",
            why=f"master_link_status is down{f', for {duration(down)}' if down > 0 else ''}",
            advice="look at the primary, and at the way from this replica to it",
        )


def _about_memory(server: Server) -> Iterator[Finding]:
    most = _setting(server, "maxmemory")
    used = _number(server.info, "used_memory")
    if not most or not used:
        return
    policy = server.config.get("maxmemory-policy") or server.info.get("maxmemory_policy", "")
    nothing_to_evict = policy.startswith("volatile") and not _expiring(server.info)
    state = f"{size(used)} of {size(most)} are used, and the eviction policy is {policy or 'unknown'}"
    if policy == "noeviction" or nothing_to_evict:
        reason = ", and no key has an end, so there is nothing to evict" if nothing_to_evict else ""
        remedy = (
            "raise maxmemory, delete what is not needed (MEMORY USAGE, --bigkeys), give keys an end; for a cache an "
            "eviction policy such as allkeys-lru"
        )
        if used >= most:
            yield Finding(
                severity=Severity.ERROR,
                code="memory_full",
                what="the server's memory is full, and it evicts nothing: writes are refused",
                why=f"{state}{reason}; commands that need memory are answered with OOM",
                advice=remedy,
            )
        elif used >= most * _NEARLY:
            yield Finding(
                severity=Severity.WARNING,
                code="memory_nearly_full",
                what="the server's memory is nearly full, and it evicts nothing",
                why=f"{state}{reason}; when it is full, writes are answered with OOM",
                advice=remedy,
            )
    elif used >= most * _NEARLY:
        evicted = _number(server.info, "evicted_keys")
        yield Finding(
            severity=Severity.NOTE,
            code="evicting",
            what="the server's memory is used up, and keys are evicted",
            why=f"{state}; {evicted:.0f} keys were evicted so far",
            advice="well for a cache; where every key matters raise maxmemory and choose noeviction",
        )


def _expiring(info: Settings) -> bool:
    """Return whether any key has an end: ``dbN`` says ``expires`` in one way or another."""
    spaces = [value for name, value in info.items() if name.startswith("db") and name[2:].isdigit()]
    return any("expires" in each and "expires=0" not in each and "'expires': 0" not in each for each in spaces)


def _about_writes(server: Server) -> Iterator[Finding]:
    """Find other reasons for which the server refuses to write."""
    info, config = server.info, server.config
    is_broken = info.get("rdb_last_bgsave_status") == "err" and config.get("stop-writes-on-bgsave-error") != "no"
    if is_broken or info.get("aof_last_write_status") == "err":
        yield Finding(
            severity=Severity.ERROR,
            code="persistence_fails",
            what="the server can't save to disk, and refuses writes because of that",
            why="its last snapshot or its last write to the append-only file failed: writes are answered with MISCONF",
            advice="see its log: mostly the disk is full, may not be written to, or memory for a fork is short",
        )
    wanted = _setting(server, "min-replicas-to-write")
    good = _number(info, "min_slaves_good_slaves")
    if wanted and "min_slaves_good_slaves" in info and good < wanted:
        yield Finding(
            severity=Severity.ERROR,
            code="too_few_replicas",
            what="the server has too few replicas, and refuses writes because of that",
            why=f"it has {good:.0f}, and min-replicas-to-write is {wanted:.0f}: writes are answered with NOREPLICAS",
            advice="look at the replicas, and at the way from them to this primary",
        )


def _about_clients(server: Server, facts: Facts) -> Iterator[Finding]:
    most = _setting(server, "maxclients")
    connected = _number(server.info, "connected_clients")
    refused = _number(server.info, "rejected_connections")
    if not most or not connected:
        return
    own = facts.options.connections + 1 + facts.options.max_dedicated_connections
    if connected >= most * _NEARLY:
        yield Finding(
            severity=Severity.WARNING,
            code="clients_nearly_all",
            what=f"{connected:.0f} of {most:.0f} clients are connected: nearly as many as there may be",
            why="whoever comes when there are so many is refused: max number of clients reached",
            advice="find out who has so many connections (CLIENT LIST), or raise maxclients",
        )
    elif connected + own > most:
        yield Finding(
            severity=Severity.WARNING,
            code="clients_too_many",
            what=f"this client alone may open {own} connections, and the server has {most - connected:.0f} left",
            why=(
                f"connections ({facts.options.connections}), one for subscriptions, and max_dedicated_connections "
                f"({facts.options.max_dedicated_connections}); beyond maxclients ({most:.0f}) they are refused"
            ),
            advice="lower max_dedicated_connections, or raise maxclients",
        )
    elif refused:
        yield Finding(
            severity=Severity.NOTE,
            code="clients_were_refused",
            what=f"{refused:.0f} connections were refused since the server's start, as there were too many",
            why=f"{connected:.0f} of {most:.0f} are connected now",
            advice="if that goes on: find out who has so many (CLIENT LIST)",
        )


def _about_idle(server: Server, facts: Facts) -> Iterator[Finding]:
    limit = _setting(server, "timeout")
    interval = facts.options.ping_interval
    if not limit or (interval is not None and interval < limit):
        return
    pings = "does not ping (ping_interval is None)" if interval is None else f"pings after {interval:g} s of silence"
    yield Finding(
        severity=Severity.WARNING,
        code="idle_timeout",
        what=f"the server closes connections that are idle for {limit:.0f} s, and the client {pings}",
        why="so an idle client loses its connection again and again, and the command that comes next waits for another",
        advice=f"set ping_interval below {limit:.0f} s, or timeout to 0 at the server",
    )


def _about_buffers(server: Server) -> Iterator[Finding]:
    limits = _buffer_limits(server.config.get("client-output-buffer-limit", ""))
    normal, pubsub = limits.get("normal", 0.0), limits.get("pubsub", 0.0)
    if 0 < normal < _SMALL_REPLIES:
        yield Finding(
            severity=Severity.WARNING,
            code="output_buffer_small",
            what=f"the server closes a connection on which {size(normal)} of replies wait",
            why=(
                "client-output-buffer-limit is set for normal clients; all callers of this client share a connection, "
                "so their replies count together, and one large one can end it for all"
            ),
            advice="set it to 0 0 0 for normal, which is the default, or well above the largest replies",
        )
    if 0 < pubsub < _SMALL_BUFFER:
        yield Finding(
            severity=Severity.WARNING,
            code="pubsub_buffer_small",
            what=f"the server closes a subscriber's connection on which {size(pubsub)} of messages wait",
            why="client-output-buffer-limit for pubsub is small: a burst of messages ends it, and more are missed",
            advice="set it to 32mb 8mb 60, which is the default, or more",
        )


def _buffer_limits(text: str) -> dict[str, float]:
    """Return the smallest limit that is set for each class of clients, in bytes: ``class hard soft seconds`` each."""
    words = text.split()
    limits = {}
    for place in range(0, len(words) - 3, 4):
        numbers = [float(word) for word in words[place + 1 : place + 3] if word.isdigit()]
        limits[words[place]] = min(filter(None, numbers), default=0.0)
    return limits


def _about_restart(server: Server) -> Iterator[Finding]:
    up = _number(server.info, "uptime_in_seconds")
    if 0 < up < _YOUNG:
        yield Finding(
            severity=Severity.NOTE,
            code="just_started",
            what=f"the server was started {duration(up)} ago",
            why="a cache is cold then, and what was not saved is gone",
            advice="if nobody did that on purpose: see its log, and whether the system killed it for want of memory",
        )


def _about_clock(server: Server, facts: Facts) -> Iterator[Finding]:
    ahead = server.clock_ahead
    if ahead is None:
        return
    has_token = facts.options.credential_provider is not None
    if abs(ahead) < (_CLOCKS if has_token else _CLOCKS_AT_ALL):
        return
    why = "the client renews its token by this machine's clock, and the server judges by its own" if has_token else ""
    yield Finding(
        severity=Severity.WARNING if has_token else Severity.NOTE,
        code="clocks_differ",
        what=f"the server's clock is {duration(abs(ahead))} {'ahead of' if ahead > 0 else 'behind'} this machine's",
        why=why or "EXPIREAT and the like go by the server's clock, and certificates by this machine's",
        advice="have both follow a time server (NTP)",
    )


def _about_silence(server: Server) -> Iterator[Finding]:
    """Say what could not be looked at."""
    if server.late:
        yield Finding(
            severity=Severity.ERROR,
            code="stopped_answering",
            what="the server has stopped answering",
            why=server.late,
            advice="look at its CPU and its log; SLOWLOG GET tells afterwards what was slow",
        )
    if not server.refused:
        return
    names = " and ".join(server.refused)
    yield Finding(
        severity=Severity.NOTE,
        code="not_told",
        what=f"not all of the server's state could be looked at: no answer to {names}",
        why=next(iter(server.refused.values())),
        advice="ask with a user that may (+info, +config|get), or whoever runs the server; nothing is wrong with that",
    )


def _setting(server: Server, name: str) -> float:
    """Return a number that ``CONFIG GET`` or, of some, ``INFO`` tells; 0 if nobody does."""
    return _number(server.config, name) or _number(server.info, name)


def _number(said: Settings, name: str) -> float:
    try:
        return float(said.get(name, ""))
    except ValueError:
        return 0.0
