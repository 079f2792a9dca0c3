"""The command table's data file: its form, what it knows, and what loading it brings along."""

from __future__ import annotations

import ast
import inspect
import json
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest
import redis.commands

from aioredis_kit.policy.commands import CommandTable

FACTS = json.loads(resources.files("aioredis_kit.policy").joinpath("commands.json").read_bytes())


@pytest.fixture(scope="module")
def table():
    return CommandTable()


def test_the_data_file_is_small_sorted_and_has_one_command_a_line():
    text = resources.files("aioredis_kit.policy").joinpath("commands.json").read_text()
    assert len(text) < 60_000
    assert list(FACTS) == sorted(FACTS)
    assert len(text.splitlines()) == len(FACTS) + 2
    assert {flag for flags, *_ in FACTS.values() for flag in flags.split()} == {"readonly", "blocking", "random"}


def test_each_command_that_redis_py_names_is_known(table):
    sent = {name for name in names_in_redis_py() if not name.startswith("SENTINEL")}
    assert len(sent) > 300
    containers = {name.split()[0] for name in FACTS if " " in name}
    unknown = {name for name in sent - containers if not table.classify((name,)).is_known}
    # Gone from servers: redis-py keeps the methods.
    assert unknown <= {"FT.ADD", "FT.ADDHASH", "FT.DEL", "FT.MGET", "STRALGO"}


def names_in_redis_py():
    folder = Path(inspect.getfile(redis.commands)).parent
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(func=ast.Attribute(attr="execute_command"), args=[ast.Constant(str(name)), *_]):
                    yield name
                case ast.Assign(targets=[ast.Name(target)], value=ast.Constant(str(name))) if (
                    name.isupper() and target.isupper() and ("." in name or target.endswith("_CMD"))
                ):
                    yield name


def test_the_table_loads_in_a_fresh_interpreter_and_nothing_with_it():
    code = (
        "import sys, redis.exceptions; before = set(sys.modules)\n"
        "from aioredis_kit.policy.commands import CommandTable\n"
        "assert CommandTable().classify(('GET', 'k')).is_readonly\n"
        "print(*(set(sys.modules) - before))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"asyncio", "socket", "hiredis", "anyio"} & set(loaded.split())
