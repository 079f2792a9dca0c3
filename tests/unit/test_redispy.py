"""What this package relies on in redis-py 8: a release that changes it fails here, not in a user's program."""

import inspect
import warnings

import pytest
import redis
from hypothesis import example, given
from hypothesis import strategies as st
from redis import exceptions
from redis._parsers.helpers import bool_ok, parse_set_result
from redis.asyncio import Redis
from redis.commands.core import AsyncCoreCommands
from redis.commands.helpers import get_legacy_responses, get_protocol_version

from aioredis_kit._redispy import EMPTY_RESPONSE, NEVER_DECODE, Encoder, error_reply, made_of_ok, response_callbacks
from aioredis_kit.exceptions import error_code


def names_of(function):
    return list(inspect.signature(function).parameters)


class Recorder(Redis):
    """redis-py's client without its ``__init__``: notes what is sent, and what is read off it that it has not."""

    def __init__(self, connection_kwargs=None):
        self.sent = []
        self.missing = set()
        self.response_callbacks = {}
        self.connection_pool = PoolStub(connection_kwargs or {})

    def execute_command(self, *args, **options):
        self.sent.append((args, options))

    def __getattr__(self, name):
        self.missing.add(name)
        raise AttributeError(name)


class PoolStub:
    def __init__(self, connection_kwargs):
        self.connection_kwargs = connection_kwargs

    def get_encoder(self):
        return Encoder("utf-8", "strict", False)


def sent_by(call):
    client = Recorder()
    _ = call(client)
    assert len(client.sent) == 1
    return client.sent[0]


def run(coroutine):
    """Run a coroutine that waits for nothing."""
    with pytest.raises(StopIteration) as stopped:
        coroutine.send(None)
    return stopped.value.value


# -- execute_command: what it is given ----------------------------------------------------------------


def test_the_version_is_one_that_was_looked_at():
    assert redis.__version__.split(".")[0] == "8"


def test_commands_end_in_execute_command():
    assert names_of(Redis.execute_command) == ["self", "args", "options"]
    assert sent_by(lambda client: client.get("k")) == (("GET", "k"), {"keys": ["k"]})
    assert sent_by(lambda client: client.incr("k", 2)) == (("INCRBY", "k", 2), {})


def test_a_name_may_contain_a_space():
    assert sent_by(lambda client: client.config_get("port"))[0] == ("CONFIG GET", "port")
    assert sent_by(lambda client: client.client_setname("me"))[0] == ("CLIENT SETNAME", "me")
    assert sent_by(lambda client: client.xinfo_stream("s"))[0] == ("XINFO STREAM", "s")


def test_options_are_meant_for_the_callback():
    _, options = sent_by(lambda client: client.zrange("z", 0, -1, withscores=True, score_cast_func=int))
    assert options["withscores"] is True
    assert options["score_cast_func"] is int


def test_two_options_are_meant_for_the_client():
    assert (NEVER_DECODE, EMPTY_RESPONSE) == ("NEVER_DECODE", "EMPTY_RESPONSE")
    assert NEVER_DECODE in sent_by(lambda client: client.dump("k"))[1]


class OneReply:
    """A connection that has one reply to read."""

    def __init__(self, reply):
        self.reply = reply
        self.was_decoded = True

    async def read_response(self, disable_decoding=False):
        self.was_decoded = not disable_decoding
        if isinstance(self.reply, Exception):
            raise self.reply
        return self.reply


def parse(reply, name="X", callbacks=(), **options):
    client = Recorder()
    client.response_callbacks = dict(callbacks)
    connection = OneReply(reply)
    return run(Redis.parse_response(client, connection, name, **options)), connection


def test_never_decode_counts_by_its_presence():
    assert parse(b"x", **{NEVER_DECODE: False})[1].was_decoded is False
    assert parse(b"x")[1].was_decoded is True


def test_the_callback_gets_the_reply_and_the_options_that_are_left():
    def callback(reply, **options):
        return reply, options

    options = {NEVER_DECODE: True, EMPTY_RESPONSE: [], "keys": ["k"], "withscores": True}
    assert parse(b"x", callbacks={"X": callback}, **options)[0] == (b"x", {"withscores": True})


def test_a_callback_may_be_asynchronous():
    async def callback(reply):
        return reply + b"!"

    assert parse(b"x", callbacks={"X": callback})[0] == b"x!"


def test_an_empty_response_takes_the_place_of_a_refusal_and_of_no_other_error():
    refusal = exceptions.ResponseError("no")
    assert parse(refusal, **{EMPTY_RESPONSE: []})[0] == []
    with pytest.raises(exceptions.ConnectionError):
        parse(exceptions.ConnectionError("gone"), **{EMPTY_RESPONSE: []})


@pytest.mark.parametrize("callback", [parse_set_result, bool_ok])
@pytest.mark.parametrize("reply", [b"OK", "OK"])
def test_what_is_made_of_ok(callback, reply):
    assert made_of_ok(callback) is True is callback(reply)
    assert made_of_ok(lambda _: True) is None


def test_the_fast_path_of_set_is_the_slow_one_without_its_check():
    """`RedisClient.set` calls what is beneath the check for experimental arguments."""
    parameters = names_of(Redis.set.__wrapped__)
    assert parameters[:3] == ["self", "name", "value"]
    assert set(parameters[11:]) == {"ifeq", "ifne", "ifdeq", "ifdne"}
    for options in ({}, {"ex": 5, "nx": True}, {"px": 5, "get": True}, {"keepttl": True, "xx": True}, {"exat": 9}):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert sent_by(lambda client, o=options: Redis.set(client, "k", "v", **o)) == sent_by(
                lambda client, o=options: Redis.set.__wrapped__(client, "k", "v", **o)
            )
    assert sent_by(lambda client: Redis.set(client, "k", "v")) == (("SET", "k", "v"), {})
    for name in ("ifeq", "ifne", "ifdeq", "ifdne"):
        with pytest.warns(UserWarning, match=name):
            sent_by(lambda client, n=name: Redis.set(client, "k", "v", **{n: "v"}))


# -- what redis-py's own code reads off the client -----------------------------------------------------

UNFIT = (
    *(TypeError, ValueError, AttributeError, exceptions.RedisError),  # text is no fit argument, or None no fit reply
    *(StopIteration, StopAsyncIteration, NotImplementedError),
)
ARGUMENTS = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}


def call_with_anything(method):
    """Call a method with text for every argument that it must have, and run what it returns."""
    required = [
        p for p in inspect.signature(method).parameters.values() if p.default is p.empty and p.kind in ARGUMENTS
    ]
    result = method(*("1" for _ in required))
    if inspect.iscoroutine(result):
        try:
            result.send(None)
        finally:
            result.close()
    elif inspect.isasyncgen(result):
        next_item = result.__anext__()
        try:
            next_item.send(None)
        finally:
            next_item.close()


def test_core_commands_read_nothing_else_off_the_client():
    client = Recorder()
    methods = [name for name, member in inspect.getmembers(AsyncCoreCommands, callable) if not name.startswith("_")]
    called = 0
    for name in methods:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                call_with_anything(getattr(client, name))
            except UNFIT:
                continue
        called += 1
    assert called > 280  # of 359: the test means something
    assert len({args[:1] for args, _ in client.sent}) > 280
    assert not client.missing


def test_scripts_and_acl_ask_for_an_encoder():
    client = Recorder()
    assert client.register_script("return 1").sha == "e0e1f9fabfc9d4800c877a703b823ac0578ff8db"
    assert names_of(Redis.get_encoder) == names_of(Redis.get_connection_kwargs) == ["self"]


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("protocol", [None, 2, 3])
def test_modules_read_the_shapes_of_responses_off_the_pool(protocol, legacy):
    client = Recorder({"protocol": protocol, "legacy_responses": legacy, "decode_responses": False})
    assert get_protocol_version(client) == protocol
    assert get_legacy_responses(client) is legacy


def test_modules_take_execute_command_and_set_callbacks_when_they_are_made():
    client = Recorder({"protocol": None, "legacy_responses": True, "decode_responses": False})
    _ = client.json().get("doc")
    assert client.sent[0][0][:2] == ("JSON.GET", "doc")
    assert "JSON.GET" in client.response_callbacks
    for module in (client.bf, client.cf, client.cms, client.topk, client.tdigest, client.ts, client.ft):
        assert module() is not None
    assert client.missing == set()


def test_a_callback_is_set_in_the_clients_dictionary():
    client = Recorder()
    client.set_response_callback("GET", len)
    assert client.response_callbacks == {"GET": len}


# -- response callbacks --------------------------------------------------------------------------------


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("protocol", [None, 2, 3])
def test_callbacks_are_functions_by_name(protocol, legacy):
    callbacks = response_callbacks(protocol, legacy_responses=legacy)
    assert len(callbacks) > 100
    assert all(isinstance(name, str) and callable(callback) for name, callback in callbacks.items())
    assert response_callbacks(protocol, legacy_responses=legacy) is not callbacks


# What the server replies to HGETALL, INFO and ZSCORE, and what the user gets.
@pytest.mark.parametrize(
    ("protocol", "legacy", "command", "reply", "response"),
    [
        (2, True, "HGETALL", [b"f", b"v"], {b"f": b"v"}),
        (None, True, "SMEMBERS", [b"a"], {b"a"}),
        (2, True, "SMEMBERS", [b"a"], {b"a"}),
        (None, True, "CONFIG GET", {b"port": b"1"}, {"port": "1"}),
        (2, True, "CONFIG GET", [b"port", b"1"], {"port": "1"}),
        (None, True, "SET", b"OK", True),
        (2, True, "ZSCORE", b"1.5", 1.5),
        (None, True, "INFO", b"# A\r\na:1\r\n", {"a": 1}),
    ],
)
def test_the_users_choice_of_protocol_decides_the_shape(protocol, legacy, command, reply, response):
    assert response_callbacks(protocol, legacy_responses=legacy)[command](reply) == response


def test_no_choice_of_protocol_is_not_the_choice_of_resp3():
    """Both are RESP3 on the wire; the first keeps the shapes of RESP2."""
    reply = [[b"a", 1.5]]
    by_default = response_callbacks(None, legacy_responses=True)["ZRANGE"](reply, withscores=True)
    by_choice = response_callbacks(3, legacy_responses=True)["ZRANGE"](reply, withscores=True)
    assert by_default == [(b"a", 1.5)]
    assert by_choice == [[b"a", 1.5]]


# -- error replies -------------------------------------------------------------------------------------


@pytest.mark.pins("4.15")
@pytest.mark.parametrize(
    ("text", "kind", "message", "code"),
    [
        ("ERR no such key", exceptions.ResponseError, "no such key", "ERR"),
        ("WRONGTYPE not a list", exceptions.ResponseError, "WRONGTYPE not a list", "WRONGTYPE"),
        ("NOAUTH Authentication required.", exceptions.AuthenticationError, "Authentication required.", "NOAUTH"),
        ("WRONGPASS invalid", exceptions.AuthenticationError, "invalid", "WRONGPASS"),
        ("ERR invalid password", exceptions.AuthenticationError, "invalid password", "ERR"),
        ("NOPERM no right", exceptions.NoPermissionError, "no right", "NOPERM"),
        ("LOADING Redis is loading", exceptions.BusyLoadingError, "Redis is loading", "LOADING"),
        ("MASTERDOWN Link is down", exceptions.MasterDownError, "Link is down", "MASTERDOWN"),
        ("CLUSTERDOWN Hash slot not served", exceptions.ClusterDownError, "Hash slot not served", "CLUSTERDOWN"),
        ("TRYAGAIN Multiple keys", exceptions.TryAgainError, "Multiple keys", "TRYAGAIN"),
        ("READONLY You can't write", exceptions.ReadOnlyError, "You can't write", "READONLY"),
        ("NOSCRIPT No matching script", exceptions.NoScriptError, "No matching script", "NOSCRIPT"),
        ("EXECABORT discarded", exceptions.ExecAbortError, "discarded", "EXECABORT"),
        ("OOM command not allowed", exceptions.OutOfMemoryError, "command not allowed", "OOM"),
        ("MOVED 3999 127.0.0.1:6381", exceptions.MovedError, "3999 127.0.0.1:6381", "MOVED"),
        ("ASK 3999 127.0.0.1:6381", exceptions.AskError, "3999 127.0.0.1:6381", "ASK"),
        ("ERR max number of clients reached", exceptions.ConnectionError, "max number of clients reached", "ERR"),
        (
            "NOPROTO unsupported protocol version",
            exceptions.ResponseError,
            "NOPROTO unsupported protocol version",
            "NOPROTO",
        ),
    ],
)
def test_the_exception_for_an_error_reply(text, kind, message, code):
    error = error_reply(text)
    assert type(error) is kind
    assert str(error) == message
    assert error_code(error) == code


@given(
    st.text(max_size=40)
    | st.builds(
        "{} {}".format,
        st.sampled_from(["MOVED", "ASK", "ERR", "LOADING", "NOAUTH", "READONLY"]),
        st.text("0123 :.ab-", max_size=20),
    )
)
@example("")
@example("MOVED")
@example("ASK 1")
@example("MOVED 1 nowhere")
@example("MOVED one h:1")
@example("ASK 1 h:port")
def test_no_text_makes_it_raise(text):
    """hiredis calls it in the middle of a frame."""
    assert isinstance(error_reply(text), exceptions.RedisError)


# -- exceptions and encoder ----------------------------------------------------------------------------


def test_which_exceptions_are_kinds_of_which():
    assert issubclass(exceptions.AuthenticationError, exceptions.ConnectionError)
    assert issubclass(exceptions.BusyLoadingError, exceptions.ConnectionError)
    assert issubclass(exceptions.MaxConnectionsError, exceptions.ConnectionError)
    assert not issubclass(exceptions.TimeoutError, (exceptions.ConnectionError, TimeoutError))
    assert not issubclass(exceptions.ConnectionError, ConnectionError)
    assert not issubclass(exceptions.DataError, exceptions.ResponseError)


def test_the_encoder_that_redis_py_asks_for():
    encoder = Encoder("latin-1", "strict", True)
    assert encoder.encode("ä") == b"\xe4"
    assert encoder.decode(b"\xe4") == "ä"
    assert (encoder.encoding, encoder.encoding_errors, encoder.decode_responses) == ("latin-1", "strict", True)
