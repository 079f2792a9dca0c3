"""Hosts on Azure: TLS and their port are assumed, unless something else is said."""

import pytest

from aioredis_kit import create_client
from aioredis_kit.exceptions import ConfigurationError
from aioredis_kit.options import TLSOptions, resolve_options
from aioredis_kit.presets import azure_port

CACHE, MANAGED = "mine.redis.cache.windows.net", "mine.westeurope.redis.azure.net"


@pytest.mark.parametrize(
    ("host", "port"),
    [
        (CACHE, 6380),
        (MANAGED, 10000),
        ("Mine.Redis.Cache.Windows.Net.", 6380),
        ("mine.redis.cache.usgovcloudapi.net", 6380),
        ("mine.redis.cache.chinacloudapi.cn", 6380),
        ("mine.eastus.redisenterprise.cache.azure.net", 10000),
        ("redis.azure.net", None),
        ("mine.redis.azure.net.example.com", None),
        ("minexredis.azure.net", None),
        ("localhost", None),
    ],
)
def test_which_hosts(host, port):
    assert azure_port(host) == port


@pytest.mark.parametrize(
    ("url", "given", "expected"),
    [
        (None, {"host": CACHE}, (6380, True, ("port", "tls"))),
        (f"redis://{MANAGED}", {}, (10000, True, ("port", "tls"))),  # as Aspire writes it
        (f"rediss://{CACHE}", {}, (6380, True, ("port",))),
        (f"redis://{MANAGED}:7", {}, (7, True, ("tls",))),
        (f"redis://{MANAGED}", {"tls": False}, (10000, False, ("port",))),
        (None, {"host": CACHE, "ssl": False, "port": 6379}, (6379, False, ())),
        (f"redis://{MANAGED}", {"ssl_ca_certs": "/ca"}, (10000, TLSOptions(ca_file="/ca"), ("port", "tls"))),
        (None, {"host": "localhost"}, (6379, False, ())),
    ],
)
def test_what_is_assumed(url, given, expected):
    options = resolve_options(url, given)
    assert (options.port, options.tls, options.preset) == expected


def test_certificates_are_checked():
    assert TLSOptions().verify is TLSOptions().check_hostname is True


def test_a_copy_for_another_host():
    options = resolve_options(None, {"host": CACHE})
    assert options.replaced({"client_name": "me"}).tls is True
    moved = options.replaced({"host": MANAGED})
    assert (moved.port, moved.preset) == (10000, ("port", "tls"))


def test_it_says_so():
    assert repr(create_client(host=CACHE)) == f"<RedisClient {CACHE}:6380 never connected, by its name: port and tls>"
    assert repr(create_client()) == "<RedisClient localhost:6379 never connected>"


def test_a_contradiction_is_still_one():
    with pytest.raises(ConfigurationError, match="contradict each other"):
        resolve_options(f"rediss://{CACHE}", {"tls": False})
