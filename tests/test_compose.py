"""docker-compose.yml has the form that its users rely on. Nothing is started: that would need Docker."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

COMPOSE = yaml.safe_load((Path(__file__).parent.parent / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES = COMPOSE["services"]


def test_both_servers_are_there():
    assert {service["image"] for service in SERVICES.values()} == {"redis:8", "valkey/valkey:9"}


def test_without_a_profile_one_service_starts():
    assert [name for name, service in SERVICES.items() if not service.get("profiles")] == ["redis"]


@pytest.mark.parametrize("name", SERVICES)
def test_an_image_is_pinned_to_a_major_version(name):
    assert re.fullmatch(r"[a-z/]+:\d+", SERVICES[name]["image"])


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
    assert check["test"] == ["CMD", f"{name}-cli", "-e", "ping"]
    interval, timeout = (int(check[key].removesuffix("s")) for key in ("interval", "timeout"))
    assert (interval + timeout) * check["retries"] <= 60


@pytest.mark.parametrize("name", SERVICES)
def test_only_known_keys_are_used(name):
    """A misspelled key would be refused by Docker, which isn't there to ask."""
    assert COMPOSE.keys() == {"services"}
    assert SERVICES[name].keys() <= {"image", "profiles", "ports", "tmpfs", "healthcheck"}
    assert SERVICES[name]["healthcheck"].keys() <= {"test", "interval", "timeout", "retries", "start_period"}
