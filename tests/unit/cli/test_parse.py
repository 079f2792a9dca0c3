"""``parse``: every option with its value and where it came from, and no secret."""

from __future__ import annotations

import dataclasses

import pytest

from aioredis_kit.cli.output import ExitCode
from aioredis_kit.options import Options
from tests.support.cli import document, invoke

STRING = "cache.example.com:6380,password=s3cret-of-ada,ssl=true,abortConnect=true,connectTimeout=2000"


def options_of(result):
    return {each["name"]: each for each in document(result)["options"]}


def test_a_connection_string_is_explained():
    result = invoke("parse", STRING)
    assert result.exit_code == ExitCode.WELL
    rows = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "cache.example.com:6380, database 0" in rows
    assert "host 'cache.example.com' from the connection string" in rows
    assert "password *** from the connection string" in rows
    assert "connect_timeout 2.0 from the connection string" in rows
    assert any(row.startswith("note: abortConnect in the connection string has no effect") for row in rows)
    assert not any(row.startswith("ping_interval") for row in rows)
    assert "s3cret" not in result.stdout
    assert "\x1b" not in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_all_shows_the_defaults_too():
    assert "ping_interval" in invoke("parse", STRING, "--all").stdout


def test_as_json():
    result = invoke(
        "parse", "--json", "rediss://ada:s3cret-of-ada@cache/3?ssl_password=s3cret-of-key&ssl_certfile=c.pem"
    )
    assert result.exit_code == ExitCode.WELL
    assert "s3cret" not in result.stdout
    read = document(result)
    assert list(read) == ["target", "options", "notes"]
    assert read["target"] == {"address": "cache:6379", "db": 3, "name": None, "sources": ["the URL"]}
    options = options_of(result)
    assert set(options) == {each.name for each in dataclasses.fields(Options) if "kind" in each.metadata}
    assert options["host"] == {
        "name": "host",
        "value": "cache",
        "source": "the URL",
        "is_default": False,
        "meaning": "Name or IP address of the server.",
    }
    assert options["password"]["value"] == "***"
    assert options["tls"]["value"] == "TLSOptions(certificate_file='c.pem', key_password=***)"
    assert options["command_timeout"] | {"meaning": ""} == {
        "name": "command_timeout",
        "value": 5.0,
        "source": "default",
        "is_default": True,
        "meaning": "",
    }
    assert options["unix_socket_path"]["value"] is None
    assert options["keep_alive"]["value"] == [30.0, 5.0, 3]


def test_an_environment_name_with_what_was_not_read():
    result = invoke(
        "parse", "--json", "cache", CACHE_HOST="one", CACHE_PASSWORD="s3cret-of-ada", REDIS_URL="redis://other"
    )
    options = options_of(result)
    assert (options["host"]["value"], options["host"]["source"]) == ("one", "CACHE_HOST")
    assert (options["password"]["value"], options["password"]["source"]) == ("***", "CACHE_PASSWORD")
    assert document(result)["notes"] == ["REDIS_URL is set and was not read: CACHE_HOST comes first"]


@pytest.mark.parametrize("arguments", [(), ("cache",)])
def test_an_environment_with_nothing_set(arguments):
    result = invoke("parse", *arguments)
    assert result.exit_code == ExitCode.MISUSED
    assert result.stdout == ""
    assert "REDIS_URL (not set)" in " ".join(result.stderr.split())
    assert document(invoke("parse", "--json", *arguments))["error"]["kind"] == "ConfigurationError"


def test_a_long_address_is_not_cut():
    host = "a-host-with-a-long-name.of-a-department.in-a-region-with-a-long-name-too.example.com"
    result = invoke("parse", f"redis://{host}:6380?command_timeout=1")
    assert f"{host}:6380," in result.stdout
    assert f"'{host}'" in result.stdout
