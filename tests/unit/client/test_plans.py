"""A plan knows of a command's name what there is to know before it is sent, and follows the callbacks."""

from types import SimpleNamespace

import pytest
from redis.exceptions import DataError

from aioredis_kit._redispy import EMPTY_RESPONSE, response_callbacks
from aioredis_kit.client.plans import Plans
from aioredis_kit.exceptions import ConfigurationError
from aioredis_kit.policy import commands
from aioredis_kit.policy.commands import CommandTable

pins = pytest.mark.pins


class Lane:
    """What an answered command flew on."""

    def __init__(self):
        self.has_written = False


class Client:
    """Plans, and what they told."""

    def __init__(self, protocol=None, *, legacy_responses=True, is_session=False):
        self.table = CommandTable()
        self.named = []
        self.plans = Plans(
            self.table,
            self.named.append,
            protocol=protocol,
            legacy_responses=legacy_responses,
            is_session=is_session,
        )
        self.lane = Lane()

    def plan(self, *args):
        return self.plans.by_name.get(args[0]) or self.plans.make(args)

    def prepared(self, *args):
        """Return what is sent, and by which lane if not by the usual one."""
        plan = self.plan(*args)
        return plan.prepare(args) if plan.prepare is not None else (args, None)

    def sent(self, *args):
        return self.prepared(*args)[0]

    def obey(self, *args, reply=b"OK", lane=None, **options):
        """Do with a command what is done when it was answered."""
        plan = self.plan(*args)
        prepared, _ = self.prepared(*args)
        command = SimpleNamespace(args=prepared, lane=lane or self.lane, reply=reply)
        return reply if plan.is_plain else plan.respond(command, options)


@pytest.fixture
def client():
    return Client()


# -- names ------------------------------------------------------------------------------------------


@pins("4.6")
@pytest.mark.parametrize(
    "args", [(), (5,), (None,), ("",), (b"",), (" ",), (b"\t",), (True,), (bytearray(b"GET"),)], ids=repr
)
def test_a_command_needs_a_name(client, args):
    with pytest.raises(DataError, match="a command needs a name: the first argument must be str or bytes"):
        client.plans.make(args)
    assert not client.plans.by_name


@pytest.mark.parametrize(
    ("args", "sent"),
    [
        (("GET", "k"), ("GET", "k")),
        (("get", "k k"), ("get", "k k")),
        (("CONFIG GET", "port"), ("CONFIG", "GET", "port")),
        ((b"CONFIG GET", "port"), (b"CONFIG", b"GET", "port")),
        (("CONFIG", "GET", "port"), ("CONFIG", "GET", "port")),
        (("GET ", "k"), ("GET", "k")),
        (("CLIENT SETNAME", "me"), ("CLIENT", "SETNAME", "me")),
        (("XREAD", "STREAMS", "s", 0), ("XREAD", "STREAMS", "s", 0)),
        (("MYMODULE.DO IT", 1), ("MYMODULE.DO", "IT", 1)),
    ],
)
def test_what_is_sent(client, args, sent):
    assert client.prepared(*args) == (sent, None)
    assert client.prepared(*args) == (sent, None)  # from the plan that there is by now


def test_a_plan_is_made_once_for_each_spelling(client):
    assert client.plan("GET", "a") is client.plan("GET", "b")
    assert client.plan("get", "a") is not client.plan("GET", "a")


@pins("P5")
def test_names_are_not_remembered_without_limit(client):
    for number in range(10_000):
        client.plan(f"NAME{number}")
    assert len(client.plans.by_name) <= 2048


# -- lanes ------------------------------------------------------------------------------------------

BLOCKING, FENCE, SESSION_ONLY, QUIT = (
    commands.Lane.BLOCKING,
    commands.Lane.FENCE,
    commands.Lane.SESSION_ONLY,
    commands.Lane.QUIT,
)


@pytest.mark.parametrize(
    ("args", "on_client", "in_session"),
    [
        (("GET", "k"), None, None),
        (("BLPOP", "k", 0), BLOCKING, BLOCKING),
        ((b"blpop", "k", 0), BLOCKING, BLOCKING),
        (("XREAD", "BLOCK", 0, "STREAMS", "s", 0), BLOCKING, BLOCKING),
        (("XREAD", "STREAMS", "s", 0), None, None),
        (("SELECT", 1), FENCE, FENCE),
        (("AUTH", "s3cret"), FENCE, FENCE),
        (("QUIT",), QUIT, QUIT),
        (("quit",), QUIT, QUIT),
        (("CLIENT", "SETNAME", "n"), None, commands.Lane.EVERY_LINK),
        (("CLIENT SETNAME", "n"), None, commands.Lane.EVERY_LINK),
        (("CLIENT", "ID"), None, None),
    ],
)
def test_which_lane_a_command_takes(client, args, on_client, in_session):
    """Whether its plan is made now or was made for another sub-command or other options."""
    session = Client(is_session=True)
    for _ in range(2):
        assert client.prepared(*args)[1] is on_client
        assert session.prepared(*args)[1] is in_session
        for each in (client, session):
            each.prepared(*{"CLIENT": ("CLIENT", "INFO"), "XREAD": ("XREAD", "STREAMS", "s", 0)}.get(args[0], args))


# -- refusals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "name"),
    [
        (("MULTI",), "MULTI"),
        ((b"exec",), "EXEC"),
        (("WATCH", "s3cret"), "WATCH"),
        (("WAIT", 1, 0), "WAIT"),
        (("HELLO", 3, "AUTH", "default", "s3cret"), "HELLO"),
        (("CLIENT TRACKING", "ON"), "CLIENT TRACKING"),
        (("CLIENT", "NO-EVICT", "ON"), "CLIENT NO-EVICT"),
        (("client", b"caching", "yes"), "CLIENT CACHING"),
        (("SCRIPT DEBUG", "YES"), "SCRIPT DEBUG"),
    ],
)
def test_what_would_harm_the_shared_connection_is_refused(client, args, name):
    """By name, and with the two ways in which it works."""
    harmless = {"CLIENT": ("CLIENT", "ID"), "client": ("client", "ID")}.get(args[0], ("PING",))
    session = Client(is_session=True)
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=f"{name} .*use a session, .*dedicated.*or a pipeline") as caught:
            client.prepared(*args)
        assert "s3cret" not in str(caught.value)
        client.prepared(*harmless)
        assert session.prepared(*args)[1] is SESSION_ONLY


@pins("P1")
@pytest.mark.parametrize("is_session", [False, True])
@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (("SUBSCRIBE", "c"), r"SUBSCRIBE is answered by pushes: use subscribe\(\) or pubsub\(\)"),
        (("psubscribe", "c"), "PSUBSCRIBE is answered by pushes"),
        (("SSUBSCRIBE", "c"), "SSUBSCRIBE is answered by pushes"),
        (("UNSUBSCRIBE",), "UNSUBSCRIBE is answered by pushes"),
        (("PUNSUBSCRIBE",), "PUNSUBSCRIBE is answered by pushes"),
        ((b"SUNSUBSCRIBE",), "SUNSUBSCRIBE is answered by pushes"),
        (("MONITOR",), r"MONITOR is answered without end: use monitor\(\)"),
        (("SYNC",), "SYNC makes a replica"),
        (("PSYNC", "?", -1), "PSYNC makes a replica"),
        (("REPLCONF", "ACK", 1), "REPLCONF makes a replica"),
        (("CLIENT REPLY", "OFF"), "CLIENT REPLY makes the server leave replies out"),
        (("CLIENT", "REPLY", "OFF"), "CLIENT REPLY makes the server leave replies out"),
        ((b"client", b"reply", "SKIP"), "CLIENT REPLY makes the server leave replies out"),
    ],
)
def test_what_is_answered_by_no_reply_of_its_own_is_refused_everywhere(args, reason, is_session):
    client = Client(is_session=is_session)
    harmless = ("CLIENT", "ID") if args[0] == "CLIENT" else (b"client", b"id") if args[0] == b"client" else ("PING",)
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=reason):
            client.prepared(*args)
        client.prepared(*harmless)


# -- what the server obeyed -------------------------------------------------------------------------


@pins("4.14")
@pytest.mark.parametrize(
    ("args", "is_write"),
    [
        (("GET", "k"), False),
        (("XREAD", "STREAMS", "s", 0), False),
        (("CONFIG GET", "port"), False),
        (("CLIENT", "ID"), False),
        (("CLIENT SETNAME", "me"), False),
        (("SET", "k", "v"), True),
        (("CONFIG SET", "maxmemory", 1), True),
        (("CONFIG", "SET", "maxmemory", 1), True),
        (("MYMODULE.SET", "k"), True),
        (("XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">"), True),
    ],
)
def test_whether_a_write_was_obeyed_is_noted(client, args, is_write):
    client.obey(*args, reply={} if args[0] in {"XREAD", "XREADGROUP", "CONFIG GET"} else b"OK")
    assert client.lane.has_written is is_write


@pins("4.14")
def test_a_write_behind_a_read_of_the_same_name_is_noted(client):
    client.obey("CONFIG", "GET", "port")
    assert not client.lane.has_written
    client.obey("CONFIG", "SET", "port", 1)
    assert client.lane.has_written


@pytest.mark.parametrize("args", [("CLIENT SETNAME", "me"), ("CLIENT", "SETNAME", "me"), ("client", b"setname", "me")])
@pytest.mark.parametrize("before", [None, ("CLIENT", "ID"), ("client", "id")])
def test_a_name_for_the_connection_is_noted_each_time(client, args, before):
    if before is not None:
        client.obey(*before)
    client.obey(*args)
    client.obey(*args)
    assert len(client.named) == 2
    assert client.named[0].args[1:] == client.sent(*args)[1:]


def test_a_write_is_told_once_then_its_reply_is_the_response(client):
    assert not client.plan("INCR", "k").is_plain
    assert client.obey("INCR", "k", reply=5) == 5
    assert client.plan("INCR", "k").is_plain
    assert client.obey("INCR", "k", reply=6) == 6


# -- responses --------------------------------------------------------------------------------------


def test_a_reply_without_a_callback_is_the_response(client):
    assert client.plan("GET", "k").is_plain
    assert client.obey("GET", "k", reply=b"v") == b"v"


def test_a_callback_makes_the_response(client):
    assert client.obey("SET", "k", "v", reply=b"OK") is True
    assert client.obey("SET", "k", "v", reply=b"OK") is True  # also when nobody is told any more
    assert client.obey("set", "k", "v", reply=b"OK") is True
    assert client.obey("CONFIG GET", "port", reply={b"port": b"1"}) == {"port": "1"}


def test_what_is_made_of_ok_is_known_beforehand(client):
    """Once nobody is told any more, and as long as the callback is redis-py's."""
    assert client.plan("SET", "k", "v").response_to_ok is None
    client.obey("SET", "k", "v", reply=b"OK")
    assert client.plan("SET", "k", "v").response_to_ok is True
    assert client.plan("PING").response_to_ok is None
    client.plans.callbacks["SET"] = lambda reply: reply
    assert client.plan("SET", "k", "v").response_to_ok is None


def test_a_name_that_is_bytes_has_no_callback(client):
    """As in redis-py."""
    assert client.obey(b"SET", "k", "v", reply=b"OK") == b"OK"


def test_a_callback_gets_the_options_of_the_call(client):
    reply = [b"a", b"1.5"]
    client.plans.callbacks["ZRANGE"] = lambda given, **options: (given, options)
    assert client.obey("ZRANGE", "z", reply=reply) == (reply, {})
    assert client.obey("ZRANGE", "z", reply=reply, withscores=True, **{EMPTY_RESPONSE: []}) == (
        *(reply,),
        {"withscores": True},
    )


# -- callbacks --------------------------------------------------------------------------------------

CHANGES = {
    "set": lambda callbacks: callbacks.__setitem__("get", len),
    "update": lambda callbacks: callbacks.update({"get": len}),
    "update by name": lambda callbacks: callbacks.update(get=len),
    "set default": lambda callbacks: callbacks.setdefault("get", len),
}
REMOVALS = {
    "delete": lambda callbacks: callbacks.__delitem__("info"),
    "pop": lambda callbacks: callbacks.pop("info"),
    "clear": lambda callbacks: callbacks.clear(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_callback_that_is_set_changes_the_plans(client, change):
    before = client.plan("GET", "k")
    change(client.plans.callbacks)
    assert client.plan("GET", "k") is before
    assert client.obey("GET", "k", reply=b"abc") == 3
    assert client.obey("Get", "k", reply=b"abc") == 3
    assert client.obey(b"GET", "k", reply=b"abc") == b"abc"


@pytest.mark.parametrize("removal", REMOVALS.values(), ids=REMOVALS)
def test_a_callback_that_is_removed_changes_the_plans(client, removal):
    assert client.obey("INFO", reply=b"a:1\r\n") == {"a": 1}
    removal(client.plans.callbacks)
    assert client.obey("INFO", reply=b"a:1\r\n") == b"a:1\r\n"
    assert "INFO" not in client.plans.callbacks


def test_callbacks_are_found_in_any_case(client):
    callbacks = client.plans.callbacks
    assert callbacks["info"] is callbacks["INFO"] is callbacks.get("Info")
    assert "info" in callbacks
    assert "INFO" in callbacks
    assert "NO SUCH COMMAND" not in callbacks
    assert b"INFO" not in callbacks
    assert callbacks.get("NO SUCH COMMAND") is None
    assert callbacks.get("NO SUCH COMMAND", len) is len
    with pytest.raises(KeyError):
        callbacks["NO SUCH COMMAND"]
    with pytest.raises(KeyError):
        del callbacks["NO SUCH COMMAND"]
    assert dict(callbacks) == response_callbacks(None, legacy_responses=True)
    assert len(callbacks) == len(list(callbacks))


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("protocol", [None, 2, 3])
def test_the_callbacks_are_those_for_the_users_choice(protocol, legacy):
    client = Client(protocol, legacy_responses=legacy)
    assert dict(client.plans.callbacks) == response_callbacks(protocol, legacy_responses=legacy)


def test_callbacks_follow_what_was_negotiated():
    """A server without RESP3 replies in RESP2, so other callbacks make the same response."""
    client = Client()
    client.plans.callbacks["GET"] = len
    assert client.obey("HGETALL", "h", reply={b"f": b"v"}) == {b"f": b"v"}
    client.plans.negotiated(2)
    assert client.obey("HGETALL", "h", reply=[b"f", b"v"]) == {b"f": b"v"}
    assert client.obey("GET", "k", reply=b"abc") == 3
    client.plans.negotiated(2)
    client.plans.negotiated(3)
    assert client.obey("HGETALL", "h", reply={b"f": b"v"}) == {b"f": b"v"}
    assert client.obey("GET", "k", reply=b"abc") == 3


@pytest.mark.parametrize("protocol", [2, 3])
def test_callbacks_that_were_asked_for_stay(protocol):
    client = Client(protocol)
    client.plans.negotiated(protocol)
    assert dict(client.plans.callbacks) == response_callbacks(protocol, legacy_responses=True)


# -- views ------------------------------------------------------------------------------------------


def test_a_copy_has_callbacks_of_its_own(client):
    client.plans.callbacks["GET"] = len
    copy = client.plans.copy()
    copy.callbacks["GET"] = bool
    copy.callbacks["TTL"] = bool
    del copy.callbacks["INFO"]
    assert client.plans.callbacks["GET"] is len
    assert "TTL" not in client.plans.callbacks
    assert "INFO" in client.plans.callbacks
    client.plans.callbacks["PTTL"] = bool
    assert "PTTL" not in copy.callbacks


def test_a_copy_follows_what_is_negotiated():
    client = Client()
    client.plans.callbacks["GET"] = len
    client.plans.negotiated(2)
    copy = client.plans.copy()
    assert dict(copy.callbacks) == {**response_callbacks(2, legacy_responses=True), "GET": len}
    copy.negotiated(3)
    assert dict(copy.callbacks) == {**response_callbacks(None, legacy_responses=True), "GET": len}


def test_a_command_that_was_registered_is_known_to_plans_made_anew(client):
    client.obey("MYMODULE.GET", "k")
    assert client.lane.has_written
    client.table.register("MYMODULE.GET", readonly=True)
    client.plans.by_name.clear()
    assert client.plan("MYMODULE.GET", "k").is_plain
