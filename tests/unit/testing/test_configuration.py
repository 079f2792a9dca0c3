"""A server's configuration file says what its options say, in a form that nothing breaks out of."""

from pathlib import Path

import pytest

from aioredis_kit.testing import TLSFiles
from aioredis_kit.testing.configuration import Configuration, configuration_lines

FOLDER = Path("/tmp/a b")


def configuration(**options):
    """Return a configuration with defaults."""
    defaults = {"password": None, "persistence": "none", "unix_socket": False, "tls": None, "extra_lines": ()}
    return Configuration(**(defaults | options))


def test_defaults():
    """By default a server listens on loopback alone and keeps nothing."""
    lines = configuration().render(port=7, folder=FOLDER).splitlines()
    assert {"bind 127.0.0.1", "port 7", 'dir "/tmp/a b"', 'save ""'} <= set(lines)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"persistence": "aof"}, "appendfsync always"),
        ({"persistence": "aof-everysec"}, "appendfsync everysec"),
        ({"persistence": "rdb"}, "save 3600 1"),
        ({"unix_socket": True}, 'unixsocket "/tmp/a b/redis.sock"'),
        ({"password": 'a "b" \\ c\nport 9'}, 'requirepass "a \\"b\\" \\\\ c\\nport 9"'),
        ({"extra_lines": ("user app on",)}, "user app on"),
    ],
)
def test_options(options, line):
    """Each option has its line, with the value quoted."""
    assert line in configuration(**options).render(port=7, folder=FOLDER).splitlines()


def test_tls():
    """With TLS there is no other port."""
    files = TLSFiles(Path("/c"), Path("/k"), Path("/ca"))
    lines = configuration(tls=files).render(port=7, folder=FOLDER).splitlines()
    assert {"port 0", "tls-port 7", 'tls-cert-file "/c"'} <= set(lines)
    assert "port 7" not in lines


def test_extra_lines_come_last():
    """Of two lines for one option the servers take the later: the user's."""
    text = configuration(extra_lines=("save 1 1",)).render(port=7, folder=FOLDER)
    assert text.endswith("save 1 1\n")


def test_lines():
    """Configuration comes as lines or as a mapping."""
    assert configuration_lines("config", {"hz": 10, "save": "60 1"}) == ("hz 10", "save 60 1")
    assert configuration_lines("config", iter(["hz 10"])) == ("hz 10",)
