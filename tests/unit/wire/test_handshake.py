"""What a connection says first, and what each answer means."""

import pytest
from redis import exceptions

from aioredis_kit._redispy import error_reply
from aioredis_kit.credentials import Credentials
from aioredis_kit.exceptions import AuthenticationFailedError, HandshakeError
from aioredis_kit.wire.handshake import Handshake, Introduction, Progress

pins = pytest.mark.pins

FULL = {
    "credentials": Credentials("ada", "s3cret"),
    "client_name": "me",
    "db": 5,
    "client_info": (("LIB-NAME", "kit"), ("LIB-VER", "1.0")),
}
HELLO = {b"server": b"redis", b"proto": 3}
UNKNOWN_HELLO = "ERR unknown command 'HELLO', with args beginning with: '3' "
NOAUTH = "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH ..."


def begin(**introduction):
    return Handshake(Introduction(**introduction), address="h:6379")


def words(handshake):
    return [step.args for step in handshake.steps]


def answer(handshake, **replies):
    """Answer a round: each step by the reply given for its first or second word, else as a server that agrees."""
    agreed = {"HELLO": HELLO, "PING": b"PONG"}
    found = []
    for step in handshake.steps:
        name = next((word for word in step.name.split() if word in replies), None)
        reply = agreed.get(step.name, b"OK") if name is None else replies[name]
        found.append(error_reply(reply) if isinstance(reply, str) else reply)
    return handshake.receive(found)


def refusal(handshake, **replies):
    with pytest.raises(HandshakeError) as caught:
        answer(handshake, **replies)
    assert caught.value.address == "h:6379"
    assert caught.value.maybe_executed is False
    return caught.value


# -- RESP3 ------------------------------------------------------------------------------------------


@pins("5.3", "case-16", "case-17")
@pytest.mark.parametrize("protocol", [None, 3])
def test_everything_is_said_in_one_round(protocol):
    handshake = begin(protocol=protocol, **FULL)
    assert words(handshake) == [
        ("HELLO", 3, "AUTH", "ada", "s3cret", "SETNAME", "me"),
        ("SELECT", 5),
        ("CLIENT", "SETINFO", "LIB-NAME", "kit"),
        ("CLIENT", "SETINFO", "LIB-VER", "1.0"),
        ("PING",),
    ]
    assert answer(handshake) is Progress.DONE
    assert handshake.protocol == 3


@pins("case-54")
@pytest.mark.parametrize(
    ("introduction", "expected"),
    [
        ({}, [("HELLO", 3), ("PING",)]),
        ({"db": 0}, [("HELLO", 3), ("PING",)]),
        ({"db": 1}, [("HELLO", 3), ("SELECT", 1), ("PING",)]),
        ({"credentials": Credentials(None, "s3cret")}, [("HELLO", 3, "AUTH", "default", "s3cret"), ("PING",)]),
        ({"credentials": Credentials("", "s3cret")}, [("HELLO", 3, "AUTH", "default", "s3cret"), ("PING",)]),
        ({"credentials": Credentials("ada", "")}, [("HELLO", 3, "AUTH", "ada", ""), ("PING",)]),
        ({"client_name": "me"}, [("HELLO", 3, "SETNAME", "me"), ("PING",)]),
        ({"client_name": ""}, [("HELLO", 3), ("PING",)]),
        ({"protocol": 2}, [("PING",)]),
        ({"protocol": 2, "credentials": Credentials(None, "s3cret")}, [("AUTH", "s3cret"), ("PING",)]),
        ({"protocol": 2, "credentials": Credentials("ada", "s3cret")}, [("AUTH", "ada", "s3cret"), ("PING",)]),
        ({"protocol": 2, "client_name": "me"}, [("CLIENT", "SETNAME", "me"), ("PING",)]),
    ],
)
def test_only_what_was_asked_for_is_said(introduction, expected):
    assert words(begin(**introduction)) == expected


# -- RESP2 ------------------------------------------------------------------------------------------

RESP2 = [
    ("AUTH", "ada", "s3cret"),
    ("CLIENT", "SETNAME", "me"),
    ("SELECT", 5),
    ("CLIENT", "SETINFO", "LIB-NAME", "kit"),
    ("CLIENT", "SETINFO", "LIB-VER", "1.0"),
    ("PING",),
]


def test_resp2_has_no_hello():
    handshake = begin(protocol=2, **FULL)
    assert words(handshake) == RESP2
    assert answer(handshake) is Progress.DONE
    assert handshake.protocol == 2


@pytest.mark.parametrize(
    "hello",
    [
        UNKNOWN_HELLO,
        "ERR unknown command `HELLO`, with args beginning with: `3`, ",
        "ERR Unknown Command",
        "NOPROTO unsupported protocol version",
    ],
)
def test_a_server_without_hello_3_is_spoken_to_in_resp2(hello):
    """With all that HELLO would have said, whatever the other answers of that round were."""
    handshake = begin(**FULL)
    assert answer(handshake, HELLO=hello, SELECT=NOAUTH, PING=NOAUTH) is Progress.ASK_NOW
    assert words(handshake) == RESP2
    assert answer(handshake) is Progress.DONE
    assert handshake.protocol == 2


def test_what_is_refused_in_resp2_is_refused():
    handshake = begin(**FULL)
    answer(handshake, HELLO=UNKNOWN_HELLO)
    assert refusal(handshake, AUTH="WRONGPASS invalid username-password pair").step == "AUTH"


def test_resp2_is_not_asked_for_again():
    handshake = begin()
    answer(handshake, HELLO=UNKNOWN_HELLO)
    assert answer(handshake, PING="ERR unknown command 'PING'") is Progress.DONE


@pytest.mark.parametrize("hello", [UNKNOWN_HELLO, "NOPROTO unsupported protocol version"])
def test_resp3_that_was_asked_for_is_not_given_up(hello):
    error = refusal(begin(protocol=3), HELLO=hello)
    assert type(error) is HandshakeError
    assert error.step == "HELLO"
    assert str(error).endswith("; protocol=3 was asked for: leave it unset to fall back to RESP2")


# -- refusals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [None, 2, 3])
@pytest.mark.parametrize(
    ("reply", "text"),
    [
        ("WRONGPASS invalid username-password pair or user is disabled.", "invalid username-password pair"),
        ("ERR invalid password", "invalid password"),
        ("ERR Client sent AUTH, but no password is set", "no password is set"),
    ],
)
def test_refused_credentials(protocol, reply, text):
    step = "AUTH" if protocol == 2 else "HELLO"
    error = refusal(begin(protocol=protocol, **FULL), **{step: reply})
    assert type(error) is AuthenticationFailedError
    assert error.step == step
    assert f"h:6379 refused {step}: " in str(error)
    assert text in str(error)
    assert isinstance(error.__cause__, exceptions.AuthenticationError)
    assert "protocol=3" not in str(error)


@pytest.mark.parametrize("protocol", [None, 2, 3])
def test_missing_credentials(protocol):
    step = "PING" if protocol == 2 else "HELLO"
    error = refusal(begin(protocol=protocol), **{step: NOAUTH})
    assert type(error) is AuthenticationFailedError
    assert error.step == step
    assert str(error).endswith("; the server asks for a password: set password= or credential_provider=")


@pytest.mark.parametrize(
    ("step", "word"), [("HELLO", "HELLO"), ("SELECT", "SELECT"), ("AUTH", "AUTH"), ("CLIENT SETNAME", "SETNAME")]
)
@pytest.mark.parametrize("reply", ["ERR out of range", "NOPERM no right", "ERR max number of clients reached"])
def test_another_refusal(step, word, reply):
    error = refusal(begin(protocol=2 if word in {"AUTH", "SETNAME"} else None, **FULL), **{word: reply})
    assert type(error) is HandshakeError
    assert error.step == step
    assert str(error).startswith(f"h:6379 refused {step}: {reply.partition(' ')[2]}")
    assert str(error.__cause__) == reply.partition(" ")[2]


def test_the_first_refusal_counts():
    assert refusal(begin(**FULL), HELLO="WRONGPASS no", SELECT=NOAUTH, PING=NOAUTH).step == "HELLO"


@pins("case-54")
@pytest.mark.parametrize("reply", ["ERR Unknown subcommand", "NOPERM no right", "LOADING not now", NOAUTH])
def test_a_refused_setinfo_is_ignored(reply):
    assert answer(begin(**FULL), SETINFO=reply) is Progress.DONE


@pins("5.3")
@pytest.mark.parametrize("reply", ["NOPERM no right", "ERR unknown command 'PING'", "MISCONF errors writing", b"odd"])
def test_any_other_answer_to_ping_is_a_sign_of_life(reply):
    assert answer(begin(**FULL), PING=reply) is Progress.DONE


# -- a server that does not serve yet ---------------------------------------------------------------


@pins("5.3")
@pytest.mark.parametrize(
    "reply", ["LOADING Redis is loading the dataset in memory", "MASTERDOWN Link with MASTER is down"]
)
def test_a_server_that_loads_is_asked_again_for_the_rest_alone(reply):
    handshake = begin(**FULL)
    for _ in range(3):
        assert answer(handshake, PING=reply) is Progress.ASK_LATER
        assert words(handshake) == [("PING",)]
    assert answer(handshake) is Progress.DONE
    assert handshake.protocol == 3


def test_what_was_refused_for_loading_is_said_again():
    handshake = begin(**FULL)
    assert answer(handshake, SELECT="LOADING not now", PING="LOADING not now") is Progress.ASK_LATER
    assert words(handshake)[0] == ("SELECT", 5)
    assert words(handshake)[-1] == ("PING",)
    assert refusal(handshake, SELECT="ERR DB index is out of range").step == "SELECT"


def test_a_server_may_load_before_hello_and_then_lack_it():
    handshake = begin(**FULL)
    assert answer(handshake, HELLO="LOADING not now", PING="LOADING not now") is Progress.ASK_LATER
    assert answer(handshake, HELLO=UNKNOWN_HELLO) is Progress.ASK_NOW
    assert words(handshake) == RESP2


# -- secrets ----------------------------------------------------------------------------------------

TOKEN = "eyJhbGciOiJub25lIn0." + "QUJD" * 300


def quoted(name, *args):
    """Return what Redis says of a command that it does not know: it quotes its arguments, 128 characters at most."""
    return f"ERR unknown command '{name}', with args beginning with: " + "".join(f"'{arg}' " for arg in args)[:128]


def shown_of(error):
    chain = []
    while error is not None:
        chain += [str(error), repr(error), repr(error.args), repr(vars(error))]
        error = error.__cause__ or error.__context__
    return " ".join(chain)


@pins("P7")
@pytest.mark.parametrize(
    "password",
    ["s3cret", TOKEN, "s3 cret", "line\nline", "ü\udcff-s3cret"],
    ids=["short", "long", "space", "lines", "undecodable"],
)
@pytest.mark.parametrize("protocol", [2, 3])
def test_a_refusal_shows_no_secret(protocol, password):
    handshake = begin(protocol=protocol, credentials=Credentials("ada", password))
    step = handshake.steps[0]
    reply = quoted(step.name, *step.args[1:]).replace("\n", " ").encode(errors="replace").decode()
    shown = shown_of(refusal(handshake, **{step.name: reply}))
    assert f"refused {step.name}: unknown command '{step.name}'" in shown
    for part in (password, password[:20], password.replace("\n", " "), password[:1] + "?"):
        assert part not in shown


@pins("P7")
def test_a_refusal_that_quotes_the_secret_otherwise_shows_its_code():
    error = refusal(begin(**FULL), HELLO="ERR s3cret is no password of mine")
    assert "refused HELLO: ERR" in str(error)
    assert "s3cret" not in shown_of(error)


@pins("P7")
def test_a_refusal_that_quotes_the_beginning_of_a_long_secret_shows_its_code():
    error = refusal(begin(credentials=Credentials("ada", TOKEN)), HELLO=f"ERR bad token {TOKEN[:100]}...")
    assert "refused HELLO: ERR" in str(error)
    assert TOKEN[:12] not in shown_of(error)


@pins("P7")
def test_a_refusal_that_begins_with_the_secret_shows_nothing_of_it():
    error = refusal(begin(credentials=Credentials("ada", TOKEN)), HELLO=f"{TOKEN[:100]}... has ended")
    assert "refused HELLO: its reason quotes the credentials" in str(error)
    assert TOKEN[:12] not in shown_of(error)


@pins("P7")
def test_an_introduction_shows_no_secret():
    assert "s3cret" not in repr(Introduction(**FULL))


@pins("P7")
def test_a_step_shows_no_secret():
    handshake = begin(**FULL)
    assert "s3cret" not in repr(handshake.steps)
    assert "s3cret" not in repr(handshake)


# -- the connection's number, and using it again ----------------------------------------------------


def test_the_number_of_the_connection_comes_with_hello():
    handshake = begin(wants_id=True)
    assert words(handshake) == [("HELLO", 3), ("PING",)]
    assert handshake.client_id is None
    assert answer(handshake, HELLO={"server": "redis", "id": 7}) is Progress.DONE
    assert handshake.client_id == 7


def test_in_resp2_it_is_asked_for_if_it_has_to_be_known():
    assert ("CLIENT", "ID") not in words(begin(protocol=2))
    handshake = begin(protocol=2, wants_id=True, credentials=Credentials("ada", "s3cret"), db=5)
    assert words(handshake) == [("AUTH", "ada", "s3cret"), ("CLIENT", "ID"), ("SELECT", 5), ("PING",)]
    assert answer(handshake, ID=9) is Progress.DONE
    assert handshake.client_id == 9


def test_it_is_asked_for_after_a_fall_back_too():
    handshake = begin(wants_id=True)
    assert answer(handshake, HELLO=UNKNOWN_HELLO) is Progress.ASK_NOW
    assert words(handshake) == [("CLIENT", "ID"), ("PING",)]
    assert answer(handshake, ID=11) is Progress.DONE
    assert (handshake.protocol, handshake.client_id) == (2, 11)


@pytest.mark.parametrize("reply", ["NOPERM no right to", "ERR unknown subcommand 'ID'"])
def test_a_number_that_is_not_told_is_done_without(reply):
    handshake = begin(protocol=2, wants_id=True)
    assert answer(handshake, ID=reply) is Progress.DONE
    assert handshake.client_id is None


@pins("case-92")
@pytest.mark.parametrize("protocol", [2, 3])
def test_a_connection_that_was_used_is_reset_first(protocol):
    """In the same write: then it becomes what a new one becomes."""
    new = begin(protocol=protocol, wants_id=True, **FULL)
    used = Handshake(Introduction(protocol=protocol, wants_id=True, **FULL), address="h:6379", is_reset=True)
    assert words(used) == [("RESET",), *words(new)]
    assert answer(used, RESET=b"RESET", ID=3, HELLO={"id": 3}) is Progress.DONE
    assert used.client_id == 3


@pins("case-92")
def test_a_fall_back_resets_as_well():
    handshake = Handshake(Introduction(wants_id=True), address="h:6379", is_reset=True)
    assert answer(handshake, RESET=b"RESET", HELLO=UNKNOWN_HELLO) is Progress.ASK_NOW
    assert words(handshake) == [("RESET",), ("CLIENT", "ID"), ("PING",)]


@pins("case-92")
def test_a_connection_that_refuses_to_be_reset_can_not_be_used_again():
    handshake = Handshake(Introduction(), address="h:6379", is_reset=True)
    assert refusal(handshake, RESET="ERR unknown command 'RESET', with args beginning with: ").step == "RESET"
