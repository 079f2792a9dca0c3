"""``OPTIONS.md`` says what the code says: what other clients call their options, and what becomes of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from aioredis_kit.config.connection_string import KEYS
from aioredis_kit.dialects import NODE_REDIS, REDISSON
from aioredis_kit.kinds import OPPOSITE
from aioredis_kit.spellings import Alias, Ignored, Meaning

DOCUMENT = Path(__file__).parents[3].joinpath("aioredis_kit/config/OPTIONS.md").read_text(encoding="utf-8")


def table(heading):
    lines = DOCUMENT.split(f"\n## {heading}\n")[1].split("\n## ")[0].splitlines()
    rows = [line.strip("|").split(" | ") for line in lines if line.startswith("| `")]
    return {name.strip(" `"): rest[0].strip() for name, *rest in rows}


@pytest.mark.parametrize(("heading", "client"), [("node-redis", NODE_REDIS), ("Redisson", REDISSON)])
def test_the_documentation_has_the_tables(heading, client):
    assert table(heading) == {
        name: "; ".join(filter(None, (f"`{each.option}`" if each.option else "", each.remark)))
        for name, each in client.items()
    }


def test_the_documentation_has_the_keys_of_connection_strings():
    assert table("Connection strings of StackExchange.Redis") == {name: becomes(each) for name, each in KEYS.items()}


def becomes(meaning: Meaning) -> str:
    if isinstance(meaning, Alias):
        option = meaning.option.replace("tls.", "TLSOptions.")
        if meaning.kind is OPPOSITE:
            return f"the opposite of `{option}`"
        return f"`{option}`: {meaning.kind.expected}" if meaning.kind else f"`{option}`"
    if isinstance(meaning, Ignored):
        told = [f"`{str(each).lower()}`" for each in meaning.unset if each not in (None, "") and meaning.kind]
        return f"without effect{f', told unless {told[0]}' if told else ''}: {meaning.reason}"
    told = [f"`{each}`" for each in meaning.unset if each]
    return f"refused{f' unless {told[0]}' if told else ''}: it {meaning.reason}"
