"""A newcomer's path, with the README alone: an empty folder, a fresh environment, and what the README says to do.

With the real pip, as newcomers have it. What takes Azure is only explained: nothing here can connect to it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.request

import pytest

from tests.support.outside import make_outside
from tests.support.readme import CONFTESTS, PROGRAMS, README, ROOT, TEST_FILES, blocks

pytestmark = pytest.mark.only_long

URL = "redis://localhost:6379"
STRICTLY = ["-W", "error", "-W", "ignore::pytest.PytestDeprecationWarning"]
"""Without a configuration file pytest-asyncio warns of a default that it may change: its business, not ours."""


@pytest.fixture(scope="module")
def outside(tmp_path_factory):
    """An environment into which the package was installed as the README says."""
    outside = make_outside(tmp_path_factory.mktemp("newcomer"), probe="pip")
    (command,) = re.findall(r"`pip install '(\.\[testing[^']+)'`", README)
    pip(outside, command, cwd=ROOT)
    return outside


def pip(outside, *requirements, cwd=None):
    """Install with pip; return all that it says."""
    done = outside.run("-m", "pip", "install", "--quiet", *requirements, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def output_of(done):
    """Return what a program has printed that ended well."""
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_first_program(outside, tmp_path, redis_url):
    (program,) = PROGRAMS
    (tmp_path / "first.py").write_text(program.replace(URL, redis_url), encoding="utf-8")
    assert output_of(outside.run("-W", "error", "first.py", cwd=tmp_path)) == "Ada\n"


def test_the_first_test(outside, tmp_path):
    """It starts a server that came along as a package."""
    (test,) = TEST_FILES
    (tmp_path / "test_mine.py").write_text(test, encoding="utf-8")
    output = output_of(outside.run("-m", "pytest", *STRICTLY, cwd=tmp_path))
    assert f"{test.count('def test_')} passed" in output


def test_a_web_service(outside, tmp_path):
    """Copied from the examples, with the framework that it takes."""
    pip(outside, "aiohttp")
    shutil.copy(ROOT / "examples" / "aiohttp_service.py", tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    service = subprocess.Popen(
        [outside.python, "-W", "error", "aiohttp_service.py", str(port)],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert [ask(port)["visits"] for _ in range(2)] == [1, 2]
        service.send_signal(signal.SIGTERM)
        _, errors = service.communicate(timeout=10)
        assert (service.returncode, errors) == (0, "")
    finally:
        service.kill()
        service.communicate()


def ask(port):
    """Ask the service, as soon as it is there."""
    deadline = time.monotonic() + 20
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/home", timeout=10) as answer:
                return json.load(answer)
        except urllib.error.URLError:
            assert time.monotonic() < deadline
            time.sleep(0.05)  # it says nothing when it begins to listen


def test_beside_pytest_redis(outside, tmp_path):
    """Its server is the one that our fixtures are about; the two don't get in each other's way."""
    server = shutil.which("redis-server")
    if server is None:
        pytest.skip("pytest-redis starts a redis-server, and none is here")
    pip(outside, "pytest-redis")
    (conftest,) = CONFTESTS
    (tmp_path / "conftest.py").write_text(conftest, encoding="utf-8")
    (tmp_path / "test_mine.py").write_text(
        TEST_FILES[0]
        + """

@pytest.mark.asyncio
async def test_both(redisdb, redis_client, redis_server, redis_proc):
    assert redis_server.port == redis_proc.port
    redisdb.set("theirs", "x")
    await redis_client.set("ours", "y")
    assert await redis_client.get("theirs") is None
    assert redisdb.get("ours") is None
""",
        encoding="utf-8",
    )
    output = output_of(outside.run("-m", "pytest", f"--redis-exec={server}", cwd=tmp_path))
    assert "3 passed" in output


def test_azure_is_explained(outside, tmp_path):
    """What Azure's quickstart has in the environment is a client with TLS, on the service's port, with tokens."""
    program = """
from aioredis_kit.config import ClientConfiguration

host = {"AZURE_CACHE_FOR_REDIS_HOST_NAME": "mine.westeurope.redis.azure.net"}
print(ClientConfiguration.from_env(environ=host).explain())
"""
    pip(outside, "azure-identity", "aiohttp")  # the extra "entra"
    lines = output_of(outside.run("-c", program, cwd=tmp_path)).splitlines()
    settings = {line.split()[0]: line.split()[1] for line in lines if "  " in line}
    assert settings["host"] == "'mine.westeurope.redis.azure.net'"
    assert (settings["port"], settings["tls"]) == ("10000", "True")
    assert "EntraIdCredentials" in settings["credential_provider"]


def test_what_caps_redis_py_can_be_installed(outside):
    """With pip, in the README's two steps: it reports a conflict, and goes on."""
    (commands,) = (block for block in blocks("shell") if "pip install arq" in block)
    for line in commands.splitlines():
        said = pip(outside, line.removeprefix("pip install ").strip('"'))
    assert "arq" in said
    assert "incompatible" in said
    output_of(outside.run("-c", "import arq, aioredis_kit; from aioredis_kit import RedisClient"))
