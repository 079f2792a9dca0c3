"""Which arguments of a command are secrets."""

import pytest

from aioredis_kit.policy.secrets import MASK, masked, masked_line, masked_text


@pytest.mark.pins("P7")
@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("AUTH hunter2", "AUTH ***"),
        ("auth ada hunter2", "auth ada ***"),
        ("AUTH ada hunter2 hunter2", "AUTH ada *** ***"),  # too many
        ("HELLO 3 AUTH ada hunter2 SETNAME me", "HELLO 3 AUTH ada *** SETNAME me"),
        ("CONFIG SET maxmemory 1 requirepass hunter2", "CONFIG SET maxmemory 1 requirepass ***"),
        ("config set MASTERAUTH hunter2", "config set MASTERAUTH ***"),
        ("CONFIG SET primaryauth hunter2", "CONFIG SET primaryauth ***"),
        ("CONFIG SET requirepass", "CONFIG SET requirepass"),
        ("HELLO 3 AUTH hunter2", "HELLO 3 AUTH ***"),  # the user was forgotten
        ("HELLO 3 AUTH hunter2 SETNAME me", "HELLO 3 AUTH *** SETNAME me"),
        ("SENTINEL CONFIG SET sentinel-pass hunter2", "SENTINEL CONFIG SET sentinel-pass ***"),
        ("ACL SETUSER ada on >hunter2 ~* +@all <hunter2", "ACL SETUSER ada on *** ~* +@all ***"),
        ("ACL SETUSER ada #0f7d !0f7d", "ACL SETUSER ada *** ***"),
        ("MIGRATE h 1 k 0 5 COPY AUTH hunter2 KEYS a", "MIGRATE h 1 k 0 5 COPY AUTH *** KEYS a"),
        ("MIGRATE h 1 k 0 5 AUTH2 ada hunter2", "MIGRATE h 1 k 0 5 AUTH2 ada ***"),
        ("SENTINEL SET mine quorum 2 auth-pass hunter2", "SENTINEL SET mine quorum 2 auth-pass ***"),
        ("SET AUTH hunter2", "SET AUTH hunter2"),  # a key of that name
        ("GET k", "GET k"),
        ("ACL WHOAMI", "ACL WHOAMI"),
        ("AUTH", "AUTH"),
    ],
)
def test_what_is_shown(command, shown):
    """However the name is given, and as text or as bytes."""
    assert " ".join(map(str, masked(tuple(command.split())))) == shown
    as_bytes = masked(tuple(word.encode() for word in command.split()))
    assert [word if isinstance(word, str) else word.decode() for word in as_bytes] == shown.split()
    first, second, *rest = [*command.split(), "", ""]
    if second:
        by_name = masked((f"{first} {second}", *(each for each in rest if each)))
        assert " ".join(map(str, by_name)) == shown


@pytest.mark.pins("P7")
@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (b'1.5 [0 127.0.0.1:5] "config" "set" "requirepass" "hunter2 \\"x"', b'"config" "set" "requirepass" "***"'),
        (b'1.5 [0 lua] "ACL" "SETUSER" "ada" ">hunter2" "on"', b'"ACL" "SETUSER" "ada" "***" "on"'),
        (b'1.5 [0 unix:/s] "set" "k\\"auth" "hunter2"', b'"set" "k\\"auth" "hunter2"'),
        (b'1.5 [0 [::1]:5] "get" ""', b'"get" ""'),
        (b'1.5 [0 unix:/a"b] "auth" "hunter2"', b'"auth" "***"'),
    ],
)
def test_what_a_monitor_shows(line, shown):
    start = line[: line.index(b'] "') + 2]
    assert masked_line(line) == start + shown


@pytest.mark.pins("P7")
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("unknown command 'ACL', with args beginning with: 'SETUSER' 'ada' '>hunter2-and-more'", MASK),
        ("Error in ACL SETUSER modifier '<hunter2-and': it was cut off", MASK),
        (
            "Error in ACL SETUSER modifier 'nonsense': Syntax error",
            "Error in ACL SETUSER modifier 'nonsense': Syntax error",
        ),
    ],
)
def test_what_is_shown_of_a_refusal(text, shown):
    assert masked_text(text, ("ACL SETUSER", "ada", ">hunter2-and-more")) == shown
    assert masked_text(text, ("GET", "hunter2-and-more")) == text


def test_nothing_at_all():
    assert masked_line(b"") == b""
    assert masked(()) == ()
    assert MASK not in masked((b"GET", memoryview(b"k"), 1, 1.5))
