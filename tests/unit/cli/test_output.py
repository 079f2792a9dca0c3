"""How commands say things: wrapped at spaces, in columns, as JSON, and masked."""

from __future__ import annotations

import json

import click
import pytest
from redis.exceptions import ResponseError

from aioredis_kit.cli.output import ExitCode, Output, reporting, wrapped
from aioredis_kit.exceptions import ConfigurationError
from tests.support.cli import invoke

LONG = "cache-with-a-rather-long-name.of-some-department.and-some-region.example.com:6380"


@pytest.fixture(autouse=True)
def eighty_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")


def test_text_is_wrapped_at_spaces():
    lines = wrapped("one two three four-five", 10, indent=2).splitlines()
    assert lines == ["  one two", "    three", "    four-five"]


def test_an_address_is_never_cut(capsys):
    Output(as_json=False).say(f"connecting to {LONG} failed")
    assert capsys.readouterr().out == f"connecting to\n  {LONG}\n  failed\n"


def test_rows_that_fit_are_in_columns_and_others_on_lines_of_their_own(capsys):
    Output(as_json=False).columns([("host", LONG, "from CACHE_URI"), ("port", "6380", "from CACHE_URI")], ("", "", ""))
    host, value, source, port = capsys.readouterr().out.splitlines()
    assert host == "host"
    assert value.strip() == LONG
    assert source.strip() == "from CACHE_URI"
    assert port.split() == ["port", "6380", "from", "CACHE_URI"]


def test_what_looks_like_markup_is_said_as_it_is(capsys):
    Output(as_json=False).say("[red]:smile: [::1]:6379 'text' 12")
    assert capsys.readouterr().out == "[red]:smile: [::1]:6379 'text' 12\n"


def test_nothing_but_the_document_is_printed_where_json_is_wanted(capsys):
    output = Output(as_json=True)
    output.say("text")
    output.columns([("a", "b")], ("", ""))
    output.document({"is_well": True})
    assert json.loads(capsys.readouterr().out) == {"is_well": True}


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (ConfigurationError("port is wrong"), ExitCode.MISUSED, "error: port is wrong"),
        (ResponseError("ERR no"), ExitCode.WRONG, "error: ERR no"),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED, "error: interrupted"),
    ],
)
def test_an_error_is_told_and_decides_what_the_process_exits_with(error, code, told, capsys):
    @click.command
    @reporting
    def failing(output):
        raise error

    with pytest.raises(SystemExit) as ended:
        failing.main([])
    assert ended.value.code == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(told)
    with pytest.raises(SystemExit) as ended:
        failing.main(["--json"])
    assert ended.value.code == code
    assert json.loads(capsys.readouterr().out)["error"]["kind"]


def test_a_bug_is_not_told_as_if_it_were_the_servers_fault():
    @click.command
    @reporting
    def buggy(output):
        raise AssertionError("a bug")

    with pytest.raises(AssertionError, match="a bug"):
        buggy.main([])


@pytest.mark.parametrize(
    "arguments",
    [
        ("redis://:s3cret-of-ada@localhost",),
        ("parse", "localhost:1", "localhost:2,password=s3cret-of-ada"),
        ("parse", "localhost:6379,", "password=s3cret-of-ada"),
        ("ping", "--count", "redis://:s3cret-of-ada@localhost"),
        ("ping", "--count=redis://:s3cret-of-ada@localhost"),
        ("ping", "--timeout", "redis://:s3cret-of-ada@localhost"),
        ("bench", "--command", "redis://:s3cret-of-ada@localhost"),
        ("parse", "redis://:s3cret-of-ada@localhost/x"),
        ("parse", "redis://s3cret-of-ada@local host"),
        ("parse", "localhost,passwort=s3cret-of-ada"),
        ("parse", "--no-such-option", "redis://:s3cret-of-ada@localhost"),
    ],
)
def test_what_was_given_is_not_quoted_if_a_password_may_be_in_it(arguments):
    result = invoke(*arguments)
    assert result.exit_code == ExitCode.MISUSED
    assert result.stdout == ""
    assert result.stderr
    assert "s3cret" not in result.stderr


def test_what_can_hold_no_password_is_quoted():
    assert "No such command 'pong'" in invoke("pong").stderr
    assert "'many' is not a valid integer" in invoke("ping", "--count", "many").stderr
    assert "--no-such-option" in invoke("ping", "--no-such-option").stderr


def test_the_help_names_every_command_and_fits():
    result = invoke("--help")
    assert result.exit_code == ExitCode.WELL
    for name in ("ping", "parse", "bench"):
        assert f"\n  {name} " in result.stdout
        told = invoke(name, "--help")
        assert told.exit_code == ExitCode.WELL
        assert max(map(len, told.stdout.splitlines())) <= 80
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_without_a_command_the_help_is_shown_and_it_counts_as_misuse():
    result = invoke()
    assert result.exit_code == ExitCode.MISUSED
    assert "Usage: aioredis-kit" in result.stderr
