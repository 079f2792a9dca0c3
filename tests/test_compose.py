"""docker-compose.yml has the form that its users rely on, and what it configures are servers that start.

Nothing is started in containers, which would need Docker: binaries that are here get the commands and the files that are
in it, with paths and ports of this machine.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from aioredis_kit import CommandTimeoutError, ConnectError, TLSOptions, create_client
from aioredis_kit.testing import RedisServer, ServerNotFoundError, ServerStartError, TLSFiles, find_binary

COMPOSE = yaml.safe_load((Path(__file__).parent.parent / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES = COMPOSE["services"]
IMAGES = {
    "redis": "redis:8",
    "valkey": "valkey/valkey:9",
    "garnet": "ghcr.io/microsoft/garnet:2",
    "redis-tls": "redis:8",
}
SECRETS = {"local-only"}
"""Passwords that everybody may know: they say so themselves."""

# Of the compose specification, what is used: the type of each key's value.
SERVICE_KEYS = {
    "image": str,
    "command": list,
    "profiles": list,
    "ports": list,
    "tmpfs": list,
    "volumes": list,
    "configs": list,
    "ulimits": dict,
    "healthcheck": dict,
}
HEALTH_KEYS = {"test": list, "interval": str, "timeout": str, "retries": int, "start_period": str}


def test_the_servers_are_there():
    assert {name: service["image"] for name, service in SERVICES.items()} == IMAGES


def test_without_a_profile_one_service_starts():
    assert [name for name, service in SERVICES.items() if not service.get("profiles")] == ["redis"]
    assert all("all" in service["profiles"] for name, service in SERVICES.items() if name != "redis")


@pytest.mark.parametrize("name", SERVICES)
def test_an_image_is_pinned_to_a_major_version(name):
    assert re.fullmatch(r"[a-z./]+:\d+", SERVICES[name]["image"])


@pytest.mark.parametrize("name", SERVICES)
def test_a_port_is_open_to_this_machine_only(name):
    (port,) = SERVICES[name]["ports"]
    assert re.fullmatch(r"127\.0\.0\.1:\d+:6379", port)


def test_no_two_services_share_a_port():
    ports = [port.split(":")[1] for service in SERVICES.values() for port in service["ports"]]
    assert len(set(ports)) == len(ports)


@pytest.mark.parametrize("name", SERVICES)
def test_a_health_check_asks_the_server(name):
    """It fails for an error reply too, and the verdict comes within a minute."""
    check = SERVICES[name]["healthcheck"]
    kind, *command = check["test"]
    assert kind == "CMD"
    if command[0] != "bash":
        assert command[0] == SERVICES[name]["command"][0].replace("-server", "-cli")
        assert (command[1], command[-1]) == ("-e", "ping")
    interval, timeout = (int(check[key].removesuffix("s")) for key in ("interval", "timeout"))
    assert (interval + timeout) * check["retries"] <= 60


@pytest.mark.parametrize("name", SERVICES)
def test_only_known_keys_are_used(name):
    """A misspelled key, or a value of another type, would be refused by Docker, which isn't there to ask."""
    assert COMPOSE.keys() == {"services", "configs"}
    service = SERVICES[name]
    assert all(isinstance(value, SERVICE_KEYS[key]) for key, value in service.items())
    assert all(isinstance(value, HEALTH_KEYS[key]) for key, value in service["healthcheck"].items())
    for key in ("command", "profiles", "ports", "tmpfs", "volumes"):
        assert all(isinstance(item, str) for item in service.get(key, []))
    assert all(isinstance(item, str) for item in service["healthcheck"]["test"])


def test_configurations_are_declared_and_used():
    used = [each["source"] for service in SERVICES.values() for each in service.get("configs", [])]
    assert used == list(COMPOSE["configs"])
    assert all(each.keys() == {"content"} for each in COMPOSE["configs"].values())


def test_nothing_is_taken_from_the_environment():
    """A dollar begins a variable in any string of the file, unless it is doubled."""
    assert not re.search(r"\$", re.sub(r"\$\$", "", yaml.safe_dump(COMPOSE)))


def test_every_secret_says_that_it_is_none():
    text = yaml.safe_dump(COMPOSE)
    contents = "\n".join(each["content"] for each in COMPOSE["configs"].values())
    found = set(re.findall(r">(\S+)", contents)) | set(re.findall(r"requirepass\W+(\S+)", text))
    for service in SERVICES.values():
        command = service["healthcheck"]["test"]
        found |= {command[place + 1] for place, word in enumerate(command) if word in {"--pass", "-a"}}
    assert found == SECRETS
    assert "PRIVATE KEY" not in text


# The same servers, started here.


def configuration(name: str) -> list[str]:
    """Return the lines that a service's server reads: from its file, or from its command's options."""
    service = SERVICES[name]
    _, *arguments = service["command"]
    files = {each["target"]: COMPOSE["configs"][each["source"]]["content"] for each in service.get("configs", [])}
    if len(arguments) == 1:
        return files[arguments[0]].splitlines()
    names, values = arguments[::2], arguments[1::2]
    assert all(option.startswith("--") for option in names)
    return [f"{option[2:]} {json.dumps(value)}" for option, value in zip(names, values, strict=True)]


def binary(name: str) -> Path:
    """Return the service's server, by its own name or, as long as that isn't there, by the other's."""
    wanted = SERVICES[name]["command"][0]
    found = shutil.which(wanted)
    try:
        return Path(found) if found else find_binary().path
    except ServerNotFoundError as exc:
        pytest.skip(str(exc))


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """What the command at the head of the file makes."""
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run([sys.executable, "-m", "trustme", "--dir", folder], check=True, capture_output=True)
    return folder


def check_health(name: str, port: int, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a service's health check on this machine."""
    _, *command = SERVICES[name]["healthcheck"]["test"]
    if command[0] == "bash":
        command[-1] = command[-1].replace("$$", "$").replace("/127.0.0.1/6379", f"/127.0.0.1/{port}")
    else:
        command[1:1] = ["-p", str(port)]
        command = [part.replace("/tls/", f"{folder}/") for part in command]
        command[0] = shutil.which(command[0]) or shutil.which("redis-cli") or pytest.skip("no redis-cli is here")
    return subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)


@pytest.mark.parametrize("name", ["redis", "valkey"])
async def test_a_plain_server_starts(name):
    with RedisServer(binary=binary(name), config=configuration(name)) as server:
        async with create_client(server.url) as client:
            assert await client.set("k", "v")
            assert (await client.config_get("save"))["save"] in ("", b"")
        assert check_health(name, server.port).returncode == 0
    assert check_health(name, 1).returncode != 0  # nobody listens there


def test_garnets_health_check():
    """It needs no redis-cli. Garnet itself is not here: the server is another that speaks the protocol."""
    with RedisServer() as server:
        assert check_health("garnet", server.port).returncode == 0
    with RedisServer(password="s3cret-of-garnet") as server:  # answers, but with an error
        assert check_health("garnet", server.port).returncode != 0
    assert check_health("garnet", 1).returncode != 0


@pytest.fixture(scope="module")
def tls_server(certificates):
    """The server with TLS and ACL; its ports are this machine's, its certificates those of the documented command."""
    lines = configuration("redis-tls")
    ports = [line for line in lines if "port" in line.split()[0]]
    assert ports == ["port 0", "tls-port 6379"]
    rest = [line.replace(" /tls/", f" {certificates}/") for line in lines if line not in ports]
    files = TLSFiles(certificates / "server.pem", certificates / "server.key", certificates / "client.pem")
    try:
        with RedisServer(binary=binary("redis-tls"), tls=files, config=rest) as server:
            yield server
    except ServerStartError as exc:
        if "without TLS" not in str(exc):
            raise
        pytest.skip(str(exc))


@pytest.mark.ordinary_secrets("what docker-compose.yml has is no secret")
async def test_the_server_with_tls_and_acl_starts(tls_server, certificates):
    (mount,) = SERVICES["redis-tls"]["volumes"]
    assert mount == "./.tls:/tls:ro"
    tls = TLSOptions(ca_file=certificates / "client.pem")
    url = f"rediss://app:local-only@localhost:{tls_server.port}"
    async with create_client(url, tls=tls) as client:
        assert await client.acl_whoami() in ("app", b"app")
        assert await client.set("k", "v")
    health = check_health("redis-tls", tls_server.port, certificates)
    assert (health.returncode, health.stdout) == (0, "PONG\n")


async def test_the_server_with_tls_and_acl_lets_nobody_else_in(tls_server, certificates):
    tls = TLSOptions(ca_file=certificates / "client.pem")
    for url, options in (
        (f"rediss://localhost:{tls_server.port}", {"tls": tls}),  # the default user is off
        (f"rediss://app:s3cret-of-nobody@localhost:{tls_server.port}", {"tls": tls}),
        (f"rediss://app:s3cret-of-nobody@localhost:{tls_server.port}", {}),  # an authority that nobody knows
        (f"redis://app:s3cret-of-nobody@localhost:{tls_server.port}", {"connect_timeout": 0.5}),
    ):
        client = create_client(url, reconnect_strategy=False, **options)
        with pytest.raises((ConnectError, CommandTimeoutError)):
            await client.connect()
