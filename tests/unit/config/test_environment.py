"""The environment names a server: what is looked at, in which order, and what becomes of what is wrong."""

from __future__ import annotations

import itertools
import re
import sys

import pytest

from aioredis_kit import create_client_from_env
from aioredis_kit.config import ClientConfiguration
from aioredis_kit.credentials import Credentials
from aioredis_kit.entra import EntraIdCredentials
from aioredis_kit.exceptions import ConfigurationError
from aioredis_kit.options import TLSOptions

SECRET = "s3cret-of-ada"
ORDER = {
    "ConnectionStrings__cache": "first:1",
    "CACHE_URI": "redis://second:2",
    "CACHE_HOST": "third",
    "REDIS_URL": "rediss://fourth:4",
    "REDIS_HOST": "fifth",
    "AZURE_CACHE_FOR_REDIS_HOST_NAME": "sixth.redis.cache.windows.net",
}
AZURE = {
    "mine.redis.cache.windows.net": 6380,
    "mine.redis.cache.usgovcloudapi.net": 6380,
    "mine.redis.cache.chinacloudapi.cn": 6380,
    "mine.eastus.redisenterprise.cache.azure.net": 10000,
    "mine.westeurope.redis.azure.net": 10000,
    "mine.usgovvirginia.redis.azure.us": 10000,
    "mine.chinanorth3.redis.azure.cn": 10000,
}


def read(environ, name="cache", **overrides):
    return ClientConfiguration.from_env(name, environ=environ, **overrides)


def refusal(environ, name="cache", **overrides):
    with pytest.raises(ConfigurationError) as caught:
        read(environ, name, **overrides)
    assert caught.value.__context__ is None, "the context may quote a secret"
    assert SECRET not in str(caught.value)
    return str(caught.value)


# -- order ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", range(len(ORDER)))
def test_the_first_that_is_set_says_all(missing):
    left = dict(itertools.islice(ORDER.items(), missing, None))
    configuration = read(left | {"AZURE_CACHE_FOR_REDIS_ACCESS_KEY": SECRET})
    first, *rest = left
    assert configuration.options.host == re.search(r"^(?:.*://)?([a-z.]+)", left[first])[1]
    assert configuration.notes == tuple(f"{each} is set and was not read: {first} comes first" for each in rest)


def test_without_a_name_it_begins_with_redis_url():
    assert read(ORDER, None).options.host == "fourth"
    assert read({"REDIS_HOST": "fifth", "CACHE_URI": "redis://second"}, None).options.host == "fifth"


def test_the_process_has_an_environment(monkeypatch):
    monkeypatch.setenv("REDIS_URL", "redis://h:7/2")
    client = create_client_from_env(db=3)
    assert "h:7" in repr(client)
    assert client.get_connection_kwargs()["db"] == 3


@pytest.mark.parametrize(
    ("name", "variables"),
    [
        ("cache", ["ConnectionStrings__cache", "CACHE_URI", "CACHE_HOST"]),
        ("my-cache.2", ["ConnectionStrings__my-cache.2", "MY_CACHE_2_URI", "MY_CACHE_2_HOST"]),
    ],
)
def test_names_of_variables_follow_from_the_name(name, variables):
    for variable, value in zip(variables, ["h", "redis://h", "h"], strict=True):
        assert read({variable: value}, name).options.host == "h"


def test_a_name_is_text():
    assert refusal({}, b"cache") == "a client's name must be text, not bytes"


@pytest.mark.parametrize("name", ["", "1st", "a b", "a=b", "é", "x" * 200, "redis://h"])
def test_a_name_that_is_no_part_of_a_variable_is_refused(name):
    assert refusal({}, name).startswith("a client's name must be letters, digits")


def test_where_nothing_is_set_the_error_says_what_was_looked_for():
    assert refusal({}) == (
        "the environment names no server: set one of these; looked for, in this order: "
        + ", ".join(f"{each} (not set)" for each in ORDER)
    )
    assert "CACHE" not in refusal({}, None).replace("AZURE_CACHE", "")


@pytest.mark.parametrize(
    ("name", "variable"), [("cache", "CACHE_URL"), ("cache", "CONNECTIONSTRINGS__CACHE"), (None, "REDIS_URI")]
)
def test_a_variable_that_was_nearly_found_is_named(name, variable):
    message = refusal({variable: f"redis://:{SECRET}@h", "OTHER_URL": "redis://h", "HOST": "h"}, name)
    assert message.endswith(f"AZURE_CACHE_FOR_REDIS_HOST_NAME (not set); {variable} is set, and is none of these")


@pytest.mark.parametrize("variable", ORDER)
@pytest.mark.parametrize("empty", ["", "  "])
def test_an_empty_variable_is_refused_and_not_passed_over(variable, empty):
    later = {each: value for each, value in ORDER.items() if list(ORDER).index(each) > list(ORDER).index(variable)}
    message = refusal({variable: empty} | later)
    assert message.startswith(f"{variable} is empty: set it, or unset it")
    assert "looked for, in this order: " in message


# -- what the variables have ------------------------------------------------------------------------


@pytest.mark.parametrize("variable", ["ConnectionStrings__cache", "CACHE_URI", "REDIS_URL"])
def test_a_url_is_read_with_its_options(variable):
    options = read({variable: f"valkeys://ada:{SECRET}@h:7/1?command_timeout=2&ssl_ca_certs=/ca.pem"}).options
    assert (options.host, options.port, options.db, options.command_timeout) == ("h", 7, 1, 2.0)
    assert options.credentials == Credentials("ada", SECRET)
    assert options.tls == TLSOptions(ca_file="/ca.pem")


def test_what_aspire_gives_is_read():
    environ = {
        "CACHE_HOST": "localhost",
        "CACHE_PORT": "7000",
        "CACHE_PASSWORD": SECRET,
        "CACHE_URI": f"redis://:{SECRET}@localhost:7000",
        "ConnectionStrings__cache": f"localhost:7000,password={SECRET}",
    }
    for left in range(3):
        options = read(environ).options
        assert (options.host, options.port, options.password, options.tls) == ("localhost", 7000, SECRET, False)
        del environ[list(ORDER)[left]]


@pytest.mark.parametrize("prefix", ["CACHE", "REDIS"])
def test_a_host_has_variables_of_its_own(prefix):
    environ = {
        "HOST": "h",
        "PORT": "7",
        "USERNAME": "ada",
        "PASSWORD": SECRET,
        "DB": "2",
        "SSL": "true",
        "SSL_CA_CERTS": "/ca.pem",
        "SSL_CERTFILE": "/c.pem",
        "SSL_KEYFILE": "/k.pem",
        "SSL_CERT_REQS": "required",
        "SSL_CHECK_HOSTNAME": "no",
        "SOCKET_TIMEOUT": "2.5",
        "MAX_CONNECTIONS": "9",
    }
    configuration = read({f"{prefix}_{suffix}": value for suffix, value in environ.items()})
    options = configuration.options
    assert (options.host, options.port, options.db) == ("h", 7, 2)
    assert (options.command_timeout, options.max_dedicated_connections) == (2.5, 9)
    assert options.credentials == Credentials("ada", SECRET)
    assert options.tls == TLSOptions(
        ca_file="/ca.pem", certificate_file="/c.pem", key_file="/k.pem", check_hostname=False
    )
    sources = {each.name: each.source for each in configuration.explain().settings}
    assert sources["port"] == f"{prefix}_PORT"
    assert sources["tls"].startswith(f"{prefix}_SSL and {prefix}_SSL_CA_CERTS")


def test_what_is_often_called_otherwise_has_both_names():
    """Most of all, what was meant to be encrypted is not sent in the clear."""
    environ = {"CACHE_HOST": "h", "CACHE_TLS": "true", "CACHE_USER": "ada", "CACHE_DATABASE": "2"}
    options = read(environ).options
    assert (options.tls, options.username, options.db) == (True, "ada", 2)
    assert read(environ | {"CACHE_SSL": "1", "CACHE_USERNAME": "ada", "CACHE_DB": "2"}).options == options
    assert refusal(environ | {"CACHE_SSL": "0"}).startswith("ssl in CACHE_SSL and tls in CACHE_TLS contradict each ")
    assert read({"CACHE_HOST": "h", "CACHE_USER": ""}).options.credentials is None


def test_an_empty_user_or_password_is_none():
    assert read({"CACHE_HOST": "h", "CACHE_PASSWORD": "", "CACHE_USERNAME": ""}).options.credentials is None


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"CACHE_URI": f"redis://:{SECRET}#@h"}, "CACHE_URI contains a '#', or an '@' after the address: "),
        ({"CACHE_URI": f"h:1,password={SECRET}"}, "CACHE_URI must begin with one of redis://"),
        ({"CACHE_URI": "redis://h/x"}, "CACHE_URI has a malformed path"),
        ({"CACHE_URI": f"redis://:{SECRET}@h?pasword=x"}, "there is no option 'pasword' in CACHE_URI"),
        ({"REDIS_URL": "redis://h?db=x"}, "db in REDIS_URL must be a whole number"),
        ({"REDIS_URL": "http://h"}, "REDIS_URL must begin with one of redis://"),
        ({"ConnectionStrings__cache": "amqp://h"}, "ConnectionStrings__cache must begin with one of redis://"),
        ({"ConnectionStrings__cache": f"h,password={SECRET},db"}, "ConnectionStrings__cache names 2 servers"),
        ({"ConnectionStrings__cache": "h,abortConect=x"}, "ConnectionStrings__cache has an unknown key 'abortConect'"),
        (
            {"ConnectionStrings__cache": "h,ssl=x"},
            "ssl in ConnectionStrings__cache must be true or false (or yes and no, 1 and 0), not",
        ),
        ({"CACHE_HOST": "redis://h"}, "host in CACHE_HOST must be a host name"),
        ({"CACHE_HOST": "h", "CACHE_PORT": "x"}, "port in CACHE_PORT must be a whole number"),
        ({"CACHE_HOST": "h", "CACHE_PORT": ""}, "CACHE_PORT is empty: set it, or unset it"),
        ({"CACHE_HOST": "h", "CACHE_PORT": "tcp://10.0.0.1:6379"}, "CACHE_PORT is what Kubernetes puts there"),
        ({"CACHE_HOST": "h", "CACHE_SSL": "on"}, "ssl in CACHE_SSL must be true or false (or yes"),
        (
            {"CACHE_HOST": "h", "CACHE_SSL_CA_CERTS": "x"},
            "ssl_ca_certs in CACHE_SSL_CA_CERTS has no effect without TLS: add tls=True (ssl=true in text)",
        ),
        ({"CACHE_HOST": "h", "CACHE_PASSWORD": "\udcff" + SECRET}, "password in CACHE_PASSWORD must be text"),
    ],
)
def test_what_is_wrong_is_refused_and_names_the_variable(environ, message):
    assert refusal(environ).startswith(message)


# -- Azure ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("host", "port"), AZURE.items())
@pytest.mark.parametrize("variable", ORDER)
def test_hosts_on_azure_get_their_port_tls_and_tokens(variable, host, port):
    """As Aspire's documents have it: without port and scheme, and with an empty password."""
    text = f"redis://{host}" if variable in {"CACHE_URI", "REDIS_URL"} else host
    configuration = read({variable: text, "CACHE_PASSWORD": "", "REDIS_PASSWORD": ""})
    options = configuration.options
    assert (options.host, options.port, options.tls) == (host, port, True)
    assert isinstance(options.credential_provider, EntraIdCredentials)
    sources = {each.name: each.source for each in configuration.explain().settings}
    assert sources["host"] == variable
    assert sources["port"] == sources["tls"] == "the host's name"
    assert sources["credential_provider"].startswith("the host's name: it is on Azure")


def test_with_a_password_there_are_no_tokens():
    host = next(iter(AZURE))
    for environ in (
        {"CACHE_URI": f"redis://:{SECRET}@{host}"},
        {"CACHE_HOST": host, "CACHE_PASSWORD": SECRET},
        {"AZURE_CACHE_FOR_REDIS_HOST_NAME": host, "AZURE_CACHE_FOR_REDIS_ACCESS_KEY": SECRET},
    ):
        options = read(environ).options
        assert (options.password, options.credential_provider, options.port) == (SECRET, None, 6380)
    assert read({"CACHE_HOST": host}, password=SECRET).options.credential_provider is None
    assert read({"CACHE_HOST": host}, credential_provider=print).options.credential_provider is print
    assert read({"CACHE_HOST": host, "CACHE_SSL": "false"}).options.credential_provider is None
    assert read({"CACHE_HOST": host}, unix_socket_path="/s").options.credential_provider is None


async def test_azures_quickstart_names_the_user_of_the_tokens(monkeypatch):
    made = []
    monkeypatch.setattr("aioredis_kit.entra.EntraIdCredentials", lambda **arguments: made.append(arguments) or print)
    environ = {"AZURE_CACHE_FOR_REDIS_HOST_NAME": next(iter(AZURE)), "REDIS_SERVICE_PRINCIPAL_ID": "0f-1"}
    options = read(environ).options
    assert made == [{"username": "0f-1"}]
    assert (options.credential_provider, options.username) == (print, None)
    with_key = read(environ | {"AZURE_CACHE_FOR_REDIS_ACCESS_KEY": SECRET})
    assert (with_key.options.username, with_key.options.password) == (None, SECRET)
    assert with_key.notes == (
        "REDIS_SERVICE_PRINCIPAL_ID is set and was not read: AZURE_CACHE_FOR_REDIS_ACCESS_KEY comes first",
    )


def test_azures_quickstart_may_name_a_port():
    environ = {"AZURE_CACHE_FOR_REDIS_HOST_NAME": "mine.westeurope.redis.azure.net:10001"}
    assert read(environ).options.port == 10001
    assert refusal({"AZURE_CACHE_FOR_REDIS_HOST_NAME": f"{next(iter(AZURE))}:x"}).startswith("port in AZURE_CACHE_FOR")


@pytest.mark.parametrize("host", ["localhost", "mine", "redis.azure.net", "mine.redis.cache.windows.net.example.com"])
def test_azures_quickstart_is_about_azure(host):
    """An access key is not sent to another server in the clear."""
    message = refusal({"AZURE_CACHE_FOR_REDIS_HOST_NAME": host, "AZURE_CACHE_FOR_REDIS_ACCESS_KEY": SECRET})
    assert message.startswith("AZURE_CACHE_FOR_REDIS_HOST_NAME is no host on Azure")


def test_without_the_extra_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "azure", None)
    monkeypatch.setattr("aioredis_kit.entra.provider.find_spec", lambda module: None)
    assert refusal({"CACHE_URI": f"redis://{next(iter(AZURE))}"}) == (
        "host in CACHE_URI is on Azure and there is no password, which asks for Microsoft Entra ID, but azure-identity "
        "is not installed: install aioredis_kit[entra], or give a credential, or a password"
    )
