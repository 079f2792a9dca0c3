"""Whatever the text is: nothing but a ``ConfigurationError`` comes out, and no secret in it."""

from __future__ import annotations

import functools
import operator
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from aioredis_kit.config import ClientConfiguration
from aioredis_kit.config.connection_string import KEYS
from aioredis_kit.config.environment import SUFFIXES
from aioredis_kit.exceptions import ConfigurationError
from aioredis_kit.options import Options
from tests.support.secrets_watch import chain_of, said_by

pytestmark = pytest.mark.ordinary_secrets(reason="any text may be a password here")

SECRET = "s3cret-of-ada"
counts = pytest.mark.parametrize("count", [50, pytest.param(1000, marks=pytest.mark.only_long)])
READERS = ["ConnectionStrings__cache", "CACHE_URI", "CACHE_HOST", "REDIS_URL", "AZURE_CACHE_FOR_REDIS_HOST_NAME"]

texts = st.text(max_size=20)
numbers = st.sampled_from(["0", "1", "-1", "6379", "99999999", "1.5", "true", "False", "none", ""])
hosts = st.sampled_from(["h", "h:1", "[::1]:7", "mine.redis.azure.net", "127.0.0.1", "!/s", ""])
separators = st.sampled_from([",", "=", ";", "/", "#", "?", "&", "@", ":", "%", " ", "\n", "\0", "[", "é", "\udcff"])
# The watch for secrets looks for the beginning of a long one: it must not be a word of ours.
passwords = st.builds(
    "{}{}{}".format, st.just(SECRET) | st.builds("0dd!{}".format, texts), separators, texts | st.just(SECRET)
).filter(lambda password: SECRET in password)
users = st.sampled_from(["", "ada", "a:b", "%41", "é", "\udcff", "a/b"])
keys = st.sampled_from([*sorted(KEYS.keys() - {"password"}), "$CONFIG", "$GET", "pasword", "x"])
names = st.sampled_from(
    [*sorted(Options.__dataclass_fields__.keys() - {"password"}), "ssl", "socket_timeout", "pingInterval", "x"]
)


@st.composite
def connection_strings(draw):
    pairs = draw(st.lists(st.builds("{}={}".format, keys, numbers | hosts), max_size=4))
    parts = [draw(hosts), *pairs, f"password={draw(passwords)}", *draw(st.lists(hosts | numbers, max_size=1))]
    return ",".join(draw(st.permutations(parts)))


@st.composite
def urls(draw):
    scheme = draw(st.sampled_from(["redis", "rediss", "valkey", "valkeys", "garnet", "unix", "http", "REDIS", ""]))
    query = "&".join(draw(st.lists(st.builds("{}={}".format, names, numbers | hosts), max_size=3)))
    password = draw(passwords)
    password = draw(st.sampled_from([password, quote(password, safe="", errors="replace")]))
    path = draw(st.sampled_from(["", "/", "/1", "/x", "/1/2"]))
    return f"{scheme}://{draw(users)}:{password}@{draw(hosts)}{path}" + (f"?{query}" if query else "")


def environments():
    texts_of = st.one_of(connection_strings(), urls(), hosts, numbers)
    others = [f"{prefix}_{suffix}" for prefix in ("CACHE", "REDIS") for suffix in SUFFIXES if suffix != "PASSWORD"]
    return st.fixed_dictionaries(
        {},
        optional={
            **dict.fromkeys([*READERS, "REDIS_HOST"], texts_of),
            **dict.fromkeys(others, numbers | hosts),
            **dict.fromkeys(["CACHE_PASSWORD", "REDIS_PASSWORD", "AZURE_CACHE_FOR_REDIS_ACCESS_KEY"], passwords),
            "REDIS_SERVICE_PRINCIPAL_ID": texts,
        },
    )


def check(read):
    """Only such an error comes out, and neither it nor an explanation shows the secret."""
    try:
        configuration = read()
    except ConfigurationError as error:
        said = "\n".join(said_by(each) for each in chain_of(error))
    else:
        assert isinstance(configuration.options, Options)
        said = f"{configuration!r}\n{configuration.explain()}"
    assert SECRET not in said


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts | numbers,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names | texts, inner, max_size=3),
    max_leaves=6,
)
tables = st.dictionaries(
    names | st.sampled_from(["url", "tls", "client_side_cache", "credential_provider", "connection_pool"]), values, max_size=4
)  # fmt: skip


def run(strategy, read, count, examples=()):
    @settings(max_examples=count, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(strategy)
    def each(text):
        check(functools.partial(read, text))

    for explicit in examples:
        each = example(explicit)(each)
    each()


@counts
def test_a_connection_string(count):
    known = [f"h,password={SECRET},x=1", f"password=x,{SECRET}", f"h,password=x,{SECRET}=1", f"h;password={SECRET}"]
    run(connection_strings() | texts, ClientConfiguration.from_string, count, known)


@counts
def test_a_url(count):
    known = [f"redis://:{SECRET}/x@h", f"redis://:x?{SECRET}=1@h", f"redis://:{SECRET}", f"//:{SECRET}@h"]
    run(urls(), ClientConfiguration.from_string, count, known)


@counts
@pytest.mark.parametrize("name", ["cache", None])
def test_an_environment(name, count):
    known = [
        {"CACHE_HOST": f"h,password={SECRET}"},
        {"REDIS_HOST": f":{SECRET}@h"},
        {"REDIS_HOST": f"redis://:{SECRET}@h"},
    ]
    run(environments(), lambda environ: ClientConfiguration.from_env(name, environ=environ), count // 2, known)


@counts
def test_a_mapping(count):
    run(st.builds(operator.or_, tables, st.builds(dict, password=passwords)), ClientConfiguration.from_mapping, count)
