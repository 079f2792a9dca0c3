"""Whoever gives an option of node-redis's or Redisson's is told ours."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest

from aioredis_kit.dialects import NODE_REDIS, REDISSON, counterpart
from aioredis_kit.options import Options, TLSOptions
from tests.support.resolving import refusal

OPTIONS = {each.name for each in fields(Options)} | {f"TLSOptions.{each.name}" for each in fields(TLSOptions)}


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("pingInterval", "what node-redis calls so is ping_interval here; in seconds, not milliseconds; "),
        ("socket.connectTimeout", "what node-redis calls so is connect_timeout here; in seconds, not milliseconds; "),
        ("connectTimeout", "what node-redis calls so is connect_timeout here; "),
        ("reconnectStrategy", "what node-redis calls so is reconnect_strategy here; "),
        ("RESP", "what node-redis calls so is protocol here"),
        ("keyPrefix", "what node-redis calls so is not known here; keys are sent as they are given"),
        ("rootNodes", "what node-redis calls so is not known here; waits for cluster support"),
        ("pingConnectionInterval", "what Redisson calls so is ping_interval here; "),
        ("scanInterval", "what Redisson calls so is not known here; waits for cluster support"),
    ],
)
def test_another_clients_option_is_refused_with_ours(name, hint):
    message = refusal(**{name: 1})
    assert message.startswith(f"there is no option {name!r}: {hint}")
    assert refusal(f"redis://h?{name}=1") == message


def test_an_option_of_nobodys_has_no_counterpart():
    assert counterpart("colour") is None
    assert counterpart("socket.colour") is None


@pytest.mark.parametrize("client", [NODE_REDIS, REDISSON])
def test_what_is_named_exists(client):
    named = {each.option for each in client.values() if each.option}
    assert {name for name in named if re.fullmatch(r"[a-z_]+|TLSOptions\.\w+", name)} <= OPTIONS
    assert not {name for name in named if "(" in name} - {"create_client(url)", "client.with_options(…)"}
    assert all(each.option or each.remark for each in client.values())
