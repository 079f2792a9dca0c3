"""Know each command: which lane may carry it, where its keys are, what sending it twice does.

``commands.json`` holds facts that servers report: one command a line, with its flags (``readonly``,
``blocking``, ``random``), its keys and where these facts come from. ``tests/tools`` has the script
that writes it. This file holds the decisions: what acts on its connection, which queries are
harmless, which writes may be repeated.

Rules of this file:

1. In doubt a command is a write, and what might block is kept off the shared lane.
2. An argument that makes no sense changes no lane and raises nothing: the server refuses it.
3. The facts are loaded once and shared; what a user registers belongs to one table.
"""

from __future__ import annotations

import enum
import functools
import importlib.resources
import json
import math
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from aioredis_kit.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["CommandTable", "CommandTraits", "Lane", "split_name"]

Argument: TypeAlias = str | bytes | bytearray | memoryview | int | float
"""What a command may be made of."""

Arguments: TypeAlias = tuple[Argument, ...]
"""A command as ``execute_command`` takes it: its name first."""


class Lane(enum.Enum):
    """Who may carry a command."""

    SHARED = enum.auto()
    """Any connection, together with everybody else's commands."""
    BLOCKING = enum.auto()
    """A dedicated connection: its reply may wait for somebody else's doing."""
    FENCE = enum.auto()
    """Every shared connection, with earlier commands ended before and later ones waiting."""
    EVERY_LINK = enum.auto()
    """Every connection, in no particular order with other commands."""
    SESSION_ONLY = enum.auto()
    """A connection of the caller's own: it changes, or speaks about, the connection it is sent on."""
    QUIT = enum.auto()
    """None: it means closing the client."""


def _names(words: str, container: str = "") -> frozenset[str]:
    return frozenset(f"{container} {word}".strip() for word in words.split())


# CLIENT CAPA and IMPORT-SOURCE are Valkey's, MAINT_NOTIFICATIONS is Redis', ASYNC (which turns replies
# into pushes) is Garnet's; HIMPORT keeps its field sets on the connection.
_LANES: Mapping[str, Lane] = {
    **dict.fromkeys(_names("SELECT AUTH"), Lane.FENCE),
    **dict.fromkeys(_names("SETNAME SETINFO", "CLIENT"), Lane.EVERY_LINK),
    **dict.fromkeys(
        _names("MULTI EXEC DISCARD WATCH UNWATCH RESET HELLO READONLY READWRITE ASKING WAIT WAITAOF")
        | _names("SUBSCRIBE PSUBSCRIBE SSUBSCRIBE UNSUBSCRIBE PUNSUBSCRIBE SUNSUBSCRIBE")
        | _names("MONITOR SYNC PSYNC REPLCONF ASYNC HIMPORT")
        | _names("REPLY TRACKING CACHING NO-EVICT NO-TOUCH", "CLIENT")
        | _names("CAPA IMPORT-SOURCE MAINT_NOTIFICATIONS", "CLIENT")
        | _names("PREPARE SET DISCARD DISCARDALL", "HIMPORT")
        | _names("DEBUG", "SCRIPT")
        | _names("SYNCSLOTS", "CLUSTER"),
        Lane.SESSION_ONLY,
    ),
    "QUIT": Lane.QUIT,
}

# Servers flag as "readonly" what reads keys. These read something else and change nothing either.
_HARMLESS_QUERIES = (
    _names("COMMAND ECHO INFO LASTSAVE PING ROLE TIME")
    | _names("CAT DRYRUN GENPASS GETUSER LIST USERS WHOAMI", "ACL")
    | _names("LIST STATUS", "BACKUP")
    | _names("CACHING GETNAME GETREDIR ID INFO LIST TRACKINGINFO", "CLIENT")
    | _names("COUNT-FAILURE-REPORTS COUNTKEYSINSLOT GETKEYSINSLOT GETSLOTMIGRATIONS INFO", "CLUSTER")
    | _names("KEYSLOT LINKS MYID MYSHARDID NODES REPLICAS SHARDS SLAVES SLOTS SLOT-STATS", "CLUSTER")
    | _names("COUNT DOCS GETKEYS GETKEYSANDFLAGS INFO LIST", "COMMAND")
    | _names("GET LEN", "COMMANDLOG")
    | _names("GET", "CONFIG")
    | _names("DUMP LIST STATS", "FUNCTION")
    | _names("GET", "HOTKEYS")
    | _names("DOCTOR GRAPH HISTOGRAM HISTORY LATEST", "LATENCY")
    | _names("DOCTOR MALLOC-STATS STATS", "MEMORY")
    | _names("LIST", "MODULE")
    | _names("CHANNELS NUMPAT NUMSUB SHARDCHANNELS SHARDNUMSUB", "PUBSUB")
    | _names("EXISTS SHOW", "SCRIPT")
    | _names("GET LEN", "SLOWLOG")
)

# These may change keys that they don't name: EXEC those of its block.
_CHANGES_ANYTHING = _names("EXEC FLUSHALL FLUSHDB SFLUSH SWAPDB TRIMSLOTS") | _names("FLUSHSLOT FLUSHSLOTS", "CLUSTER")

# Nobody but their author knows what scripts do: the _RO variants too are writes when in doubt.
_SCRIPTS = _names("EVAL EVAL_RO EVALSHA EVALSHA_RO FCALL FCALL_RO")

# Position of the block time in seconds, counted as in a list: -1 is the last argument.
_BLOCK_TIME_AT: Mapping[str, int] = {
    **dict.fromkeys(_names("BLPOP BRPOP BZPOPMAX BZPOPMIN"), -1),
    **dict.fromkeys(_names("BLMPOP BZMPOP"), 1),
    "BRPOPLPUSH": 3,
    **dict.fromkeys(_names("BLMOVE BLMOVEM"), 5),
}

# The same in milliseconds. They wait for what others do with the writes of their own connection.
_BLOCK_MILLISECONDS_AT: Mapping[str, int] = {"WAIT": 2, "WAITAOF": 3}

# Redis 6 cuts a block time to whole milliseconds, and takes 0 for ever.
_SHORTEST_BLOCK_TIME = 0.001

# These block only with the option BLOCK (milliseconds): where their options begin.
_BLOCK_OPTION_FROM: Mapping[str, int] = {"XREAD": 1, "XREADGROUP": 1, "TS.READ": 3}

# How many arguments an option takes that may come before BLOCK.
_OPTION_VALUES: Mapping[str, int] = {"CLAIM": 1, "COUNT": 1, "GROUP": 2, "MAX_COUNT": 1}

# Writes that may be repeated: executed twice in a row they leave the same data and give the same
# reply as executed once. So not HSET, SADD or DEL: their second reply counts nothing new. A relative
# expiry begins anew, as it would for a command that was late. Writes of modules are never repeated.
_REPEATABLE = (
    _names("HMSET LSET MSET PFMERGE PSETEX SETEX SETRANGE") | _names("SET", "CONFIG") | _names("LOAD", "SCRIPT")
)

# Repeatable with these options alone: where the options begin, and how many arguments each takes.
# Left out: conditions (NX, IFEQ …), old values (SET GET), instants that may have passed (GETEX EXAT).
_REPEATABLE_WITH: Mapping[str, tuple[int, Mapping[str, int]]] = {
    "BITFIELD": (2, {"GET": 2}),
    "EXPIRE": (3, {}),
    "GETEX": (2, {"EX": 1, "PX": 1, "PERSIST": 0}),
    "PEXPIRE": (3, {}),
    "SET": (3, {"EX": 1, "PX": 1, "EXAT": 1, "PXAT": 1, "KEEPTTL": 0}),
}

# Repeatable unless the destination is a source as well.
_REPEATABLE_INTO_ANOTHER_KEY = _names(
    "BITOP GEORADIUS GEORADIUSBYMEMBER GEOSEARCHSTORE SDIFFSTORE SINTERSTORE SORT SUNIONSTORE"
    " ZDIFFSTORE ZINTERSTORE ZRANGESTORE ZUNIONSTORE"
)


def split_name(args: Arguments) -> Arguments:
    """Return a command with each word of its name as an argument of its own.

    As redis-py does it: ``("CONFIG GET", "port")`` becomes ``("CONFIG", "GET", "port")``.
    """
    if args and isinstance(args[0], str | bytes):
        words = args[0].split()
        if words and len(words[0]) != len(args[0]):
            return (*words, *args[1:])
    return args


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandTraits:
    """What is known of one command.

    The fields hold for every call of that command, except that `lane` is ``BLOCKING`` for the calls of
    ``XREAD``, ``XREADGROUP`` and ``TS.READ`` that block. What else depends on a call's arguments
    is a method that takes them, name first.

    Attributes:
        name: In capitals, with its sub-command: ``CONFIG GET``.
        lane: Who may carry it.
        is_known: Whether the table has it.
        is_readonly: Whether it changes nothing, so that sending it again does no harm.
        is_deterministic: Whether the reply depends on its arguments and on the values of the keys that
            they name, on nothing else. Says something about commands that are read-only alone.
        key_specs: Where its keys are.
    """

    name: str
    lane: Lane = Lane.SHARED
    is_known: bool = True
    is_readonly: bool = False
    is_deterministic: bool = False
    key_specs: tuple[_KeySpec, ...] = ()

    @property
    def is_blocking(self) -> bool:
        """Whether the server may hold the reply back until somebody else does something."""
        return self.lane is Lane.BLOCKING

    @property
    def has_keys(self) -> bool:
        """Whether the command names keys."""
        return bool(self.key_specs)

    @property
    def is_cacheable(self) -> bool:
        """Whether a reply stays right until one of the keys changes that the command names."""
        return self.is_readonly and self.is_deterministic and self.has_keys and self.lane is Lane.SHARED

    @property
    def may_change_anything(self) -> bool:
        """Whether it may change keys that it doesn't name."""
        return not self.is_known or self.name in _CHANGES_ANYTHING

    def changed_keys(self, args: Arguments) -> Arguments | None:
        """Return the keys that it may change, as they were given; None for perhaps any."""
        if self.is_readonly:
            return ()
        keys = self.keys(args)
        # Scripts should name all keys that they use. Those that name none do not care, so who knows what they change.
        is_careless = not keys and self.name in _SCRIPTS and not self.name.endswith("_RO")
        return None if self.may_change_anything or is_careless else keys

    @property
    def only_key_at(self) -> int | None:
        """Where its only key is, counted from the name as 0, if it always has just one in the same place."""
        match self.key_specs:
            case (_Range(first, last, _),) if first == last:
                return first
        return None

    def keys(self, args: Arguments) -> Arguments:
        """Return the keys, as they were given. `PUBLISH` has its channel here."""
        args = split_name(args)
        return tuple(key for spec in self.key_specs for key in spec.find(args))

    def first_key(self, args: Arguments) -> Argument | None:
        """Return what decides the command's connection, or None."""
        args = split_name(args)
        for spec in self.key_specs:
            if keys := spec.find(args):
                return keys[0]
        return None

    @property
    def first_key_at(self) -> int | None:
        """Where the first key is, counted from the name as 0, which stands for nowhere. None if that varies."""
        if not self.key_specs:
            return 0
        first = self.key_specs[0]
        return first.first if isinstance(first, _Range) else None

    def block_time(self, args: Arguments) -> float | None:
        """Return for how long the server may hold the reply back, in seconds.

        0 is for ever. None if the command doesn't block, which is also what one does whose block
        time makes no sense: the server refuses it at once.
        """
        args = split_name(args)
        if self.name in _BLOCK_MILLISECONDS_AT:
            milliseconds = _positive_number(args, _BLOCK_MILLISECONDS_AT[self.name])
            return None if milliseconds is None else milliseconds / 1000
        if not self.is_blocking:
            return None
        if self.name in _BLOCK_OPTION_FROM:
            position = _find_block_option(self.name, args)
            milliseconds = None if position is None else _positive_number(args, position + 1)
            return None if milliseconds is None else milliseconds / 1000
        if self.name in _BLOCK_TIME_AT:
            return _positive_number(args, _BLOCK_TIME_AT[self.name])
        return 0.0

    def is_idempotent(self, args: Arguments) -> bool:
        """Whether executing the command twice in a row equals executing it once.

        That is: the same data and the same reply, if nobody else writes in between.
        """
        if self.is_readonly or self.name in _REPEATABLE:
            return True
        args = split_name(args)
        if self.name in _REPEATABLE_WITH:
            start, options = _REPEATABLE_WITH[self.name]
            if self.name in {"EXPIRE", "PEXPIRE"} and not _positive_number(args, 2):
                return False  # it deletes the key, and then there is none to expire
            return _has_only(options, args[start:])
        if self.name in _REPEATABLE_INTO_ANOTHER_KEY:
            keys = self.keys(args)
            return len({_to_bytes(key) for key in keys}) == len(keys)
        return False


def with_block_time(traits: CommandTraits, args: Arguments, elapsed: float) -> Arguments | None:
    """Return a blocking command that has already waited for a while, to wait for the rest.

    Args:
        traits: Its traits.
        args: The command.
        elapsed: How long it has waited, in seconds.

    Returns:
        ``None`` if no time is left.
    """
    block_time = traits.block_time(args)
    args = split_name(args)
    if not block_time:
        return args
    left = block_time - elapsed
    if left <= 0:
        return None
    changed = list(args)
    if traits.name in _BLOCK_OPTION_FROM:
        position = _find_block_option(traits.name, args)
        if position is not None:
            changed[position + 1] = max(math.ceil(left * 1000), 1)
    elif traits.name in _BLOCK_TIME_AT:
        changed[_BLOCK_TIME_AT[traits.name]] = max(left, _SHORTEST_BLOCK_TIME)
    return tuple(changed)


def is_repeated_alike(traits: CommandTraits, args: Arguments) -> bool:
    """Whether a blocking command means the same when it is sent a second time.

    ``XREAD`` of what comes after ``$`` doesn't: what came between the two would be missed.
    """
    return traits.name != "XREAD" or not any(_token(arg) == "$" for arg in split_name(args))


class CommandTable:
    """The commands that are known, and those that a user adds.

    Lifecycle: one per client, which registers into it and looks up each command's traits. Views share it.

    Attributes:
        registered: How many times something was registered: what was looked up before may be out of date.
    """

    __slots__ = ("_containers", "_traits", "registered")

    def __init__(self) -> None:
        self.registered = 0
        self._traits: dict[str, CommandTraits] = {}  # registered, or looked up before
        self._containers = {name.partition(" ")[0] for name in _facts() if " " in name}

    def classify(self, args: Arguments) -> CommandTraits:
        """Return the traits of a command, whatever is wrong with its arguments.

        Args:
            args: The name, then the arguments. The name may be bytes, be in any case and contain
                spaces; its sub-command may as well be the first argument.
        """
        args = split_name(args)
        traits = self._find(args)
        if traits.name in _BLOCK_OPTION_FROM and _find_block_option(traits.name, args) is not None:
            return replace(traits, lane=Lane.BLOCKING)
        return traits

    def depends_on_arguments(self, name: Argument) -> bool:
        """Whether two commands that begin with this name may have different traits.

        If not, what `classify` returned once may be kept for this spelling of the name.
        """
        words = split_name((name,))
        first = _token(words[0])
        return first in _BLOCK_OPTION_FROM or (first in self._containers and len(words) == 1)

    def register(
        self, name: str | bytes, *, readonly: bool = False, blocking: bool = False, keys: int | str = ""
    ) -> None:
        """Add a command that the table lacks, or replace what it says of an ordinary one.

        Args:
            name: Its name in any case, with its sub-command if it has one: ``"MYMODULE.GET"``.
            readonly: It changes nothing, so that it is sent again after a lost connection.
            blocking: Its reply may wait for somebody else's doing: it gets a dedicated connection,
                and no deadline once it is written.
            keys: Where its keys are: ``1`` is the first argument, ``"1..-1"`` all, ``"1..-1/2"`` every
                second, ``"#1"`` those after their number, ``"1 #2"`` both. None by default.

        Raises:
            ConfigurationError: The name or `keys` is none, or the table knows that the command blocks
                or acts on its connection.
        """
        words = [_token(word) for word in split_name((name,))]
        canonical = " ".join(words)
        if len(words) > 2 or not all(words) or canonical.isspace() or not canonical.isascii():
            raise ConfigurationError(f"name: {name!r} is no command: give one word, and its sub-command if it has one")
        known = self._look_up(canonical)
        if known is not None and (known.lane is not Lane.SHARED or canonical in _BLOCK_OPTION_FROM):
            raise ConfigurationError(
                f"name: {canonical} is known to block or to act on its connection,"
                " which can't be changed: register other commands"
            )
        self.registered += 1
        self._traits[canonical] = CommandTraits(
            name=canonical,
            lane=Lane.BLOCKING if blocking else Lane.SHARED,
            is_readonly=readonly,
            key_specs=_parse_keys(str(keys)),
        )
        if len(words) > 1:
            self._containers.add(words[0])

    def _find(self, args: Arguments) -> CommandTraits:
        first = _token(args[0]) if args else ""
        if first in self._containers and len(args) > 1:
            traits = self._look_up(f"{first} {_token(args[1])}")
            if traits is not None:
                return traits
        return self._look_up(first) or CommandTraits(name=first, is_known=False)

    def _look_up(self, name: str) -> CommandTraits | None:
        traits = self._traits.get(name)
        if traits is None:
            traits = _describe(name)
            if traits is not None:
                self._traits[name] = traits
        return traits


@functools.cache
def _facts() -> Mapping[str, tuple[str, str, str]]:
    source = importlib.resources.files("aioredis_kit.policy").joinpath("commands.json")
    facts: dict[str, tuple[str, str, str]] = json.loads(source.read_bytes())
    return facts


def _describe(name: str) -> CommandTraits | None:
    """Put a command's facts and the decisions about it together; None if there are neither."""
    lane = _LANES.get(name, Lane.SHARED)
    facts = _facts().get(name)
    if facts is None:
        return CommandTraits(name=name, lane=lane) if name in _LANES else None
    flags, keys, _ = facts
    if lane is Lane.SHARED and "blocking" in flags and name not in _BLOCK_OPTION_FROM:
        lane = Lane.BLOCKING
    is_query = name in _HARMLESS_QUERIES or name.endswith(" HELP")
    return CommandTraits(
        name=name,
        lane=lane,
        is_readonly=("readonly" in flags or is_query) and name not in _SCRIPTS,
        is_deterministic="random" not in flags,
        key_specs=_parse_keys(keys),
    )


# -- where keys are ---------------------------------------------------------------------------------


class _Range(NamedTuple):
    """Keys from one position to another: ``1``, ``1..2``, ``1..-1/2``."""

    first: int
    last: int
    step: int

    def find(self, args: Arguments) -> Arguments:
        end = self.last + 1 if self.last >= 0 else len(args) + self.last + 1
        return args[self.first : end : self.step]


class _Counted(NamedTuple):
    """Keys after their number: ``#1``, ``#1/2``."""

    position: int
    step: int

    def find(self, args: Arguments) -> Arguments:
        count = int(_positive_number(args, self.position) or 0)
        first = self.position + 1
        return args[first : first + count * self.step : self.step]


class _AfterWord(NamedTuple):
    """Keys after a word: the next (``STORE@6``), all (``KEYS@6..-1``) or half (``STREAMS@1..half``)."""

    word: str
    start: int
    last: str

    def find(self, args: Arguments) -> Arguments:
        for position in range(self.start, len(args)):
            if _token(args[position]) == self.word:
                rest = args[position + 1 :]
                return rest[: {"": 1, "-1": len(rest), "half": len(rest) // 2}[self.last]]
        return ()


_KeySpec: TypeAlias = _Range | _Counted | _AfterWord

_RANGE = re.compile(r"([1-9]\d*)(?:\.\.(-?[1-9]\d*)(?:/([1-9]\d*))?)?", re.ASCII)
_COUNTED = re.compile(r"#([1-9]\d*)(?:/([1-9]\d*))?", re.ASCII)
_AFTER_WORD = re.compile(r"([A-Z]+)@([1-9]\d*)(?:\.\.(-1|half))?", re.ASCII)


def _parse_keys(notation: str) -> tuple[_KeySpec, ...]:
    return tuple(_parse_spec(spec) for spec in notation.split())


def _parse_spec(spec: str) -> _KeySpec:
    if match := _RANGE.fullmatch(spec):
        first, last, step = match.groups()
        return _Range(int(first), int(last or first), int(step or 1))
    if match := _COUNTED.fullmatch(spec):
        position, step = match.groups()
        return _Counted(int(position), int(step or 1))
    if match := _AFTER_WORD.fullmatch(spec):
        word, start, last = match.groups()
        return _AfterWord(word, int(start), last or "")
    raise ConfigurationError(
        f"keys: {spec!r} says no place of keys: give a position such as 1,"
        " a range such as '1..-1' or the position of their number, '#1'"
    )


# -- what arguments say -----------------------------------------------------------------------------


def _token(arg: Argument) -> str:
    """Return a name or option in capitals; of what can't be one, an empty string."""
    if isinstance(arg, memoryview):
        arg = arg.tobytes() if arg.nbytes <= 64 else b""
    if isinstance(arg, bytes | bytearray):
        arg = arg.decode("latin-1") if len(arg) <= 64 else ""
    if not isinstance(arg, str) or len(arg) > 64:
        return ""
    # Only ASCII: a long s in capitals would be an S here, but not on the server.
    return arg.upper() if arg.isascii() else arg


def _positive_number(args: Arguments, position: int) -> float | None:
    """Return a number that isn't negative, or None for anything else."""
    try:
        arg = args[position]
        number = float(arg.tobytes() if isinstance(arg, memoryview) else arg)
    except (IndexError, TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _to_bytes(arg: Argument) -> bytes:
    return bytes(arg) if isinstance(arg, bytearray | memoryview | bytes) else str(arg).encode(errors="surrogatepass")


def _options(args: Arguments, start: int, values: Mapping[str, int]) -> Iterator[tuple[int, str]]:
    """Yield position and name of each option, knowing how many arguments each takes."""
    while start < len(args):
        option = _token(args[start])
        yield start, option
        start += 1 + values.get(option, 0)


def _find_block_option(name: str, args: Arguments) -> int | None:
    for position, option in _options(args, _BLOCK_OPTION_FROM[name], _OPTION_VALUES):
        if option == "BLOCK":
            return position
        if option == "STREAMS":
            return None
    return None


def _has_only(options: Mapping[str, int], args: Arguments) -> bool:
    return all(option in options for _, option in _options(args, 0, options))
