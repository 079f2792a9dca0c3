"""A mapping, such as a table of TOML, has all options."""

from __future__ import annotations

import dataclasses

import pytest

from aioredis_kit.cache.options import CacheOptions
from aioredis_kit.config import ClientConfiguration
from aioredis_kit.entra import EntraIdCredentials
from aioredis_kit.exceptions import ConfigurationError
from aioredis_kit.options import Options, TLSOptions

SECRET = "s3cret-of-ada"
ALL = """
host = "h"
port = 7000
db = 2
client_name = "web"
client_info_tag = "tag"
disable_client_info = true
decode_responses = true
encoding = "latin-1"
encoding_errors = "replace"
legacy_responses = false
protocol = 3
connections = 2
max_dedicated_connections = 9
command_timeout = "none"
connect_timeout = 1
initial_connect_timeout = 20.5
close_timeout = 2
reconnect_strategy = 0.5
ping_interval = 60
ping_timeout = 3
disable_offline_queue = true
commands_queue_max_length = 10
commands_queue_max_bytes = 1_000
queue_full = "raise"
max_reply_bytes = "none"
retry_unanswered = "never"
keep_alive = [60, 10, 5]
tcp_user_timeout = 10
no_delay = false
single_connection_client = false
credential_provider = "entra"

[tls]
ca_file = "/ca.pem"
certificate_file = "/c.pem"
key_password = "s3cret-of-ada"
check_hostname = false
minimum_version = "TLSv1.3"

[client_side_cache]
mode = "broadcast"
prefixes = ["user:"]
ttl = 60
max_entries = 10
"""
BESIDES = """
[redis.sessions]
unix_socket_path = "/s"
username = "ada"
password = "s3cret-of-ada"
emit_invalidate = true
"""


def read(given, **overrides):
    return ClientConfiguration.from_mapping(given, source="settings", **overrides).options


def refusal(given, **overrides):
    with pytest.raises(ConfigurationError) as caught:
        read(given, **overrides)
    assert caught.value.__context__ is None, "the context may quote a secret"
    assert SECRET not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def toml(tmp_path):
    path = tmp_path / "settings.toml"
    path.write_text(ALL + BESIDES.replace("redis.", "mine.redis."), encoding="utf-8")
    return path


def test_toml_has_a_form_of_every_option(tmp_path, toml):
    path = tmp_path / "one.toml"
    path.write_text(ALL, encoding="utf-8")
    options = ClientConfiguration.from_toml(path).options
    provider = options.credential_provider
    assert isinstance(provider, EntraIdCredentials)
    assert options == Options(
        host="h",
        port=7000,
        db=2,
        client_name="web",
        client_info_tag="tag",
        disable_client_info=True,
        decode_responses=True,
        encoding="latin-1",
        encoding_errors="replace",
        legacy_responses=False,
        protocol=3,
        connections=2,
        max_dedicated_connections=9,
        command_timeout=None,
        connect_timeout=1,
        initial_connect_timeout=20.5,
        close_timeout=2,
        reconnect_strategy=0.5,
        ping_interval=60,
        ping_timeout=3,
        disable_offline_queue=True,
        commands_queue_max_length=10,
        commands_queue_max_bytes=1000,
        queue_full="raise",
        max_reply_bytes=None,
        retry_unanswered="never",
        keep_alive=(60, 10, 5),
        tcp_user_timeout=10,
        no_delay=False,
        credential_provider=provider,
        tls=TLSOptions(
            ca_file="/ca.pem",
            certificate_file="/c.pem",
            key_password=SECRET,
            check_hostname=False,
            minimum_version="TLSv1.3",
        ),
        client_side_cache=CacheOptions(mode="broadcast", prefixes=("user:",), ttl=60, max_entries=10),
    )
    other = ClientConfiguration.from_toml(str(toml), table="mine.redis.sessions", db=1).options
    assert other == Options(unix_socket_path="/s", username="ada", password=SECRET, emit_invalidate=True, db=1)
    names = {line.partition("=")[0].strip(" []") for line in (ALL + BESIDES).splitlines()}
    options = {each.name for each in dataclasses.fields(Options) if "kind" in each.metadata}
    assert names >= options - {"hooks"}  # which are objects, given as arguments


@pytest.mark.parametrize(
    ("given", "options"),
    [
        ({}, Options()),
        ({"url": f"redis://:{SECRET}@h:7"}, Options(host="h", port=7, password=SECRET)),
        ({"url": "redis://h", "db": 1}, Options(host="h", db=1)),
        ({"url": None, "host": "h"}, Options(host="h")),
        ({"url": "rediss://h", "tls": {"ca_file": "/ca"}}, Options(host="h", tls=TLSOptions(ca_file="/ca"))),
        ({"ssl": True, "ssl_ca_certs": "/ca"}, Options(tls=TLSOptions(ca_file="/ca"))),
        ({"tls": {}}, Options(tls=TLSOptions())),
        ({"tls": {"verify": "false"}}, Options(tls=TLSOptions(verify=False))),
        ({"client_side_cache": True}, Options(client_side_cache=CacheOptions())),
        ({"client_side_cache": False}, Options()),
        ({"client_side_cache": {"ttl": None}}, Options(client_side_cache=CacheOptions())),
        ({"reconnect_strategy": False}, Options(reconnect_strategy=False)),
        ({"port": "7", "decode_responses": "yes", "socket_timeout": "2"}, Options(port=7, decode_responses=True, command_timeout=2)),
        ({"username": None, "command_timeout": None}, Options(command_timeout=None)),
        ({"credential_provider": print, "tls": TLSOptions()}, Options(credential_provider=print, tls=TLSOptions())),
    ],
)  # fmt: skip
def test_a_mapping_is_read(given, options):
    assert read(given) == options


def test_tokens_have_arguments():
    given = {
        "type": "entra",
        "username": "0f-1",
        "scope": "s",
        "tenant_id": "t",
        "ratio": 0.5,
        "margin": 60,
        "jitter": 0,
    }
    provider = read({"credential_provider": given}).credential_provider
    assert isinstance(provider, EntraIdCredentials)
    assert "for s" in repr(provider)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"colour": "red"}, "there is no option 'colour' in settings: the closest one is "),
        ({"pingInterval": 1}, "there is no option 'pingInterval' in settings: what node-redis calls so is ping_interval "),
        ({"port": "x"}, "port in settings must be a whole number from 1 to 65535, not the given text"),
        ({"port": 7.0}, "port in settings must be a whole number"),
        ({"port": []}, "port in settings must be a whole number from 1 to 65535, not a value of type list"),
        ({"command_timeout": True}, "command_timeout in settings must be a finite number"),
        ({"password": 5}, "password in settings must be text, or None, not a value of type int"),
        ({"password": [SECRET]}, "password in settings must be text, or None, not a value of type list"),
        ({"host": None}, "host in settings must be a host name"),
        ({"keep_alive": [1, 2]}, "keep_alive in settings must be "),
        ({"reconnect_strategy": "fast"}, "reconnect_strategy in settings can't be said as text: pass it as an argument"),
        ({"tls": {"CA_PATH": "x"}}, "there is no option 'tls.CA_PATH' in settings: the closest one is 'tls.ca_path'"),
        ({"tls": {"ca_fil": "x"}}, "there is no option 'tls.ca_fil' in settings: the closest one is 'tls.ca_file'"),
        ({"tls": {"verify": "maybe"}}, "tls.verify in settings must be true or false (or yes"),
        ({"tls": {"key_file": "x"}}, "TLSOptions.key_file is of no use alone"),
        ({"tls": {"key_password": [SECRET]}}, "TLSOptions.key_password must be text"),
        ({"tls": {1: 2}}, "there is no option 'tls.1' in settings"),
        ({"tls": "sure"}, "tls in settings must be true or false (or yes"),
        ({"client_side_cache": {"mode": "x"}}, "client_side_cache.mode in settings must be 'default' or"),
        ({"client_side_cache": "yes"}, "client_side_cache in settings can't be said as text"),
        ({"credential_provider": "vault"}, "credential_provider in settings must be 'entra'"),
        ({"credential_provider": {"type": SECRET}}, "credential_provider in settings must be 'entra'"),
        ({"credential_provider": {"scop": "x"}}, "there is no option 'credential_provider.scop' in settings"),
        ({"credential_provider": {"ratio": "1"}}, "credential_provider.ratio in settings must be a number"),
        ({"credential_provider": {"ratio": 2}}, "credential_provider in settings: ratio must be a number from 0 to 0.95"),
        ({"url": 5}, "url in settings must be text, not int"),
        ({"url": f"http://:{SECRET}@h"}, "the url in settings must begin with one of redis://"),
        ({"url": "redis://h", "host": "i"}, "host in the url in settings and host in settings contradict each other"),
        ({5: "x"}, "settings has a key of type int: it must be text"),
        ({"connection_pool": object()}, "connection_pool in settings must be given when the client is made"),
        ({"nodeAddresses": []}, "there is no option 'nodeAddresses' in settings: what Redisson calls so is not known here"),
        ([], "settings must be a mapping, not list"),
        (None, "settings must be a mapping, not NoneType"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_and_names_the_key(given, message):
    assert refusal(given).startswith(message)


# -- files ------------------------------------------------------------------------------------------


def test_errors_and_explanations_name_the_file(tmp_path, toml):
    explanation = ClientConfiguration.from_toml(toml, table="mine.redis.sessions").explain()
    assert {each.source for each in explanation.settings} == {"", f"[mine.redis.sessions] of {toml}"}
    with pytest.raises(ConfigurationError) as caught:
        ClientConfiguration.from_toml(toml)
    assert str(caught.value).startswith(f"there is no option 'mine' in {toml}: ")


@pytest.mark.parametrize("table", ["mine.rediss", "mine.redis.sessions.password", "host", "", "."])
def test_a_table_that_is_not_there_is_refused(toml, table):
    with pytest.raises(ConfigurationError) as caught:
        ClientConfiguration.from_toml(toml, table=table)
    assert str(caught.value) == f"{toml} has no table [{table}]"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f'password = "{SECRET}'.encode(), "is no TOML (at "),
        (f"password = {SECRET}".encode(), "is no TOML (at line 1, column 12)"),
        (f"{SECRET} = 1\n{SECRET} = 2".encode(), "is no TOML (at "),
        (f"{SECRET} = {{a = 1, a = 2}}".encode(), "is no TOML (at "),
        (b"\xff\xfe" + SECRET.encode(), "is no TOML"),
        (None, "can't be read: "),
    ],
)
def test_a_file_that_is_no_toml_is_refused_and_nothing_of_it_shown(tmp_path, content, message):
    path = tmp_path / "settings.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError) as caught:
        ClientConfiguration.from_toml(path)
    assert str(caught.value).startswith(f"{path} {message}")
    assert SECRET not in str(caught.value)
    assert caught.value.__context__ is None, "the context quotes the file"
