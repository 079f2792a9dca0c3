"""A connection string of StackExchange.Redis: every option is taken, refused or ignored, for a reason."""

from __future__ import annotations

import logging
import re

import pytest

from aioredis_kit.config import ClientConfiguration
from aioredis_kit.config.connection_string import KEYS
from aioredis_kit.exceptions import ConfigurationError
from aioredis_kit.options import Options, TLSOptions
from aioredis_kit.spellings import Alias, Ignored

MAPPED = [
    ("asyncTimeout=1500", "command_timeout", 1.5),
    ("syncTimeout=1500", "command_timeout", 1.5),
    ("syncTimeout=1500,asyncTimeout=2500", "command_timeout", 2.5),
    ("asyncTimeout=2500,syncTimeout=1500", "command_timeout", 2.5),
    ("connectTimeout=250", "connect_timeout", 0.25),
    ("defaultDatabase=3", "db", 3),
    ("defaultDatabase=", "db", 0),
    ("keepAlive=60", "ping_interval", 60.0),
    ("keepAlive=0", "ping_interval", None),
    ("keepAlive=-1", "ping_interval", 30.0),
    ("name=web-1", "client_name", "web-1"),
    ("password=s3cret-of-ada,user=ada", "username", "ada"),
    ("password=s3cret-of-ada", "password", "s3cret-of-ada"),
    ("password=s3cret=of=ada==", "password", "s3cret=of=ada=="),
    ("password=", "password", None),
    ("protocol=resp2", "protocol", 2),
    ("protocol=RESP3", "protocol", 3),
    ("protocol=3", "protocol", 3),
    ("setlib=false", "disable_client_info", True),
    ("setlib=true", "disable_client_info", False),
    ("ssl=true", "tls", True),
    ("ssl=False", "tls", False),
    ("ssl=true,sslHost=example.com", "tls", TLSOptions(server_hostname="example.com")),
    ("ssl=true,sslProtocols=Tls13", "tls", TLSOptions(minimum_version="TLSv1.3")),
    ("ssl=true,sslProtocols=tls12|tls13", "tls", TLSOptions(minimum_version="TLSv1.2")),
    ("ssl=true,sslProtocols=None", "tls", True),
    ("tcpKeepAlive=false", "keep_alive", None),
    ("tcpKeepAlive=true", "keep_alive", (30.0, 5.0, 3)),
]
IGNORED = [
    *("abortConnect=true", "allowAdmin=false", "checkCertificateRevocation=true", "configChannel=changes"),
    *("configCheckSeconds=60", "connectRetry=3", "defaults=azure", "highIntegrity=true", "highPriorityThreads=true"),
    *("maintMovingEndpointType=external-ip", "maintNotifications=auto", "maintPostEventRelaxed=5"),
    *("maintRelaxedTimeout=10", "maintRelaxedWindowMax=30", "preserveAsyncOrder=true", "resolveDns=true"),
    *("responseTimeout=5000", "tiebreaker=key", "version=7.4", "writeBuffer=4096", "$FLUSHALL="),
]
NEEDLESS = [
    *("abortConnect=false", "allowAdmin=true", "checkCertificateRevocation=false", "configChannel=", "highIntegrity=0"),
    *("maintNotifications=Disabled", "resolveDns=false", "tiebreaker=", "channelPrefix=", "proxy=None", "tunnel="),
    *("serviceName=", "sentinelUser=", "sentinelPassword="),
]
REFUSED = [
    *("channelPrefix=app:", "proxy=Twemproxy", "proxy=envoyproxy", "tunnel=http:proxy:8080", "serviceName=mymaster"),
    *("sentinelUser=ada", "sentinelPassword=s3cret-of-ada", "$CONFIG=hidden"),
]


def read(text, **overrides):
    return ClientConfiguration.from_string(text, **overrides)


def refusal(text):
    with pytest.raises(ConfigurationError) as caught:
        read(text)
    assert caught.value.__context__ is None, "the context may quote a secret"
    return str(caught.value)


def key_of(case):
    return case.rpartition(",")[2].partition("=")[0]


# -- options ----------------------------------------------------------------------------------------


def test_every_option_has_a_case_here():
    """Those of peers.md D.2.1, and what the newest StackExchange.Redis still reads."""
    keys = {key_of(case) for case in [*(case for case, _, _ in MAPPED), *IGNORED, *NEEDLESS, *REFUSED]}
    assert {key for key in keys if not key.startswith("$")} == KEYS.keys()
    assert {key_of(case) for case, _, _ in MAPPED} == {key for key, each in KEYS.items() if isinstance(each, Alias)}
    assert {key_of(case) for case in IGNORED} - {"$FLUSHALL"} == {
        key for key, each in KEYS.items() if isinstance(each, Ignored)
    }


@pytest.mark.parametrize(("text", "name", "value"), MAPPED)
def test_an_option_is_mapped(text, name, value):
    configuration = read(f"h:6379,{text}")
    assert getattr(configuration.options, name) == value
    assert configuration.options.ignored == ()


@pytest.mark.parametrize("text", IGNORED)
def test_an_option_is_ignored_with_a_warning_that_says_why(text, caplog):
    name = key_of(text)
    configuration = read(f"h:6379,{text}")
    assert configuration.options == Options(host="h", ignored=(name,))
    (note,) = configuration.explain().notes
    assert note.startswith(f"{name} in the connection string has no effect. ")
    configuration.create_client()
    assert [each.message for each in caplog.records if each.levelno == logging.WARNING] == [note]


@pytest.mark.parametrize("text", NEEDLESS)
def test_an_option_that_asks_for_what_is_so_anyway_is_taken_in_silence(text):
    configuration = read(f"h:6379,{text}")
    assert configuration.options == Options(host="h")
    assert configuration.explain().notes == ()


@pytest.mark.parametrize("text", REFUSED)
def test_an_option_that_cannot_be_honoured_is_refused_with_a_reason(text):
    assert refusal(f"h:6379,{text}").startswith(f"{key_of(text)} in the connection string is not supported: ")


@pytest.mark.parametrize(
    "text",
    [
        *(
            "abortConnect=maybe",
            "allowAdmin=",
            "asyncTimeout=0",
            "asyncTimeout=-1",
            "asyncTimeout=1.5",
            "syncTimeout=x",
        ),
        *(
            "connectTimeout=",
            "connectTimeout=00000000000001",
            "defaultDatabase=-1",
            "defaultDatabase=x",
            "keepAlive=-2",
        ),
        *("name=two words", "protocol=4", "protocol=resp", "setlib=2", "ssl=on", "tcpKeepAlive=5", "connectRetry=x"),
        *("ssl=true,sslHost=a b", "ssl=true,sslProtocols=Tls", "ssl=true,sslProtocols=Ssl3|Tls12"),
    ],
)
def test_a_value_of_a_wrong_type_is_refused(text):
    assert refusal(f"h:6379,{text}").startswith(f"{key_of(text)} in the connection string must be ")


def test_keys_are_read_in_any_case_and_spaces_are_dropped():
    assert read(" h:7 , SSL = true ,, DEFAULTDATABASE=1 ,").options == Options(host="h", port=7, tls=True, db=1)


def test_keys_that_contradict_each_other_are_refused():
    assert read("h,ssl=true,SSL=true").options.tls is True
    assert refusal("h,ssl=true,ssl=false").startswith("ssl in the connection string and ssl in the connection string ")
    assert refusal("h,sslHost=example.com").startswith("sslHost in the connection string has no effect without TLS")


def test_commands_may_be_named_behind_a_password_too():
    assert read("h,password=s3cret-of-ada,$CONFIG=").options.ignored == ("$…",)


# -- the server -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("h", {"host": "h", "port": 6379}),
        ("h:7000", {"host": "h", "port": 7000}),
        ("h:7000,h:7000", {"host": "h", "port": 7000}),
        ("password=s3cret-of-ada,h:7000", {"host": "h", "port": 7000}),
        ("h,ssl=true", {"host": "h", "port": 6380}),
        ("ssl=true,h:7000", {"host": "h", "port": 7000}),
        ("h,ssl=false", {"host": "h", "port": 6379}),
        ("127.0.0.1:1", {"host": "127.0.0.1", "port": 1}),
        ("[::1]:1", {"host": "::1", "port": 1}),
        ("[::1]", {"host": "::1", "port": 6379}),
        ("!/run/redis.sock", {"unix_socket_path": "/run/redis.sock"}),
        ("mine.redis.cache.windows.net,password=s3cret-of-ada", {"port": 6380, "tls": True}),
        ("mine.redis.cache.windows.net:6380,password=s3cret-of-ada,ssl=True", {"port": 6380, "tls": True}),
        ("mine.westeurope.redis.azure.net,password=s3cret-of-ada,ssl=true", {"port": 10000, "tls": True}),
    ],
)
def test_what_has_no_key_is_the_server(text, values):
    options = read(text).options
    assert {name: getattr(options, name) for name in values} == values


@pytest.mark.parametrize("text", ["", " , ", "ssl=true", "password=s3cret-of-ada"])
def test_without_a_server_it_is_refused(text):
    assert refusal(text).startswith("the connection string names no server: add host:port")


def test_two_servers_are_refused():
    message = refusal("one:6379,two:6379,password=s3cret-of-ada")
    assert message.startswith("the connection string names 2 servers, and a client is for one")
    assert "comma" not in message


@pytest.mark.parametrize("text", ["h:x", "::1", "h:7:8", "a[b]", "!run/redis.sock", "=x", "h:123456"])
def test_a_malformed_address_is_refused(text):
    assert refusal(text).startswith("the connection string has a malformed address: it must be host, host:port, ")


@pytest.mark.parametrize("text", ["h h", "h/1", "user@h"])
def test_what_is_no_name_of_a_host_is_refused(text):
    assert refusal(text).startswith("host in the connection string must be a host name")


# -- unknown keys, and commas in passwords ----------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("h,colour=red", "the connection string has an unknown key 'colour': the closest one is 'protocol'"),
        (
            "h,conectTimeout=1",
            "the connection string has an unknown key 'conectTimeout': the closest one is 'connectTimeout'",
        ),
        ("h,s3cret=1", "the connection string has a malformed key in its part 2: it must be key=value,key=value"),
    ],
)
def test_an_unknown_key_is_refused_and_named(text, message):
    assert refusal(text) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("h,password=s3cret,of-ada", "the connection string names 2 servers"),
        ("h,password=s3cret,of[ada", "the connection string names 2 servers"),
        ("password=s3cret,of-ada", "the connection string names no server before its password"),
        ("password=s3cret,of[ada", "the connection string has a malformed address"),
        ("h,password=s3cret,of=ada", "the connection string has an unknown key in its part 3; "),
        ("h,sentinelPassword=s3cret,of=ada,password=x", "the connection string has an unknown key in its part 3; "),
        ("sentinelPassword=s3cret,ada", "the connection string names no server before its password"),
        ("h,password=s3cret,conectTimeout=1", "the connection string has an unknown key in its part 3: the closest one is 'conn"),
    ],
)  # fmt: skip
def test_a_comma_in_a_password_is_refused_and_nothing_of_it_shown(text, message):
    shown = refusal(text)
    assert shown.startswith(message)
    assert "if the password contains a comma, which this format can't escape, give a URL with %2C" in shown
    assert not re.search("s3cret|ada|conect", shown)


def test_a_string_that_is_given_to_create_client_is_shown_the_way():
    from aioredis_kit import create_client

    with pytest.raises(ConfigurationError, match=r"connection string of StackExchange\.Redis to aioredis_kit\.config"):
        create_client("h:6379,password=s3cret-of-ada")
