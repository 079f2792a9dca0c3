"""A server's options are checked before anything is started."""

import pytest

from aioredis_kit.testing import RedisServer


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"persistence": "yes"}, "persistence"),
        ({"port": 0}, "port"),
        ({"port": 70000}, "port"),
        ({"acl": "user app on"}, "acl"),
        ({"config": "save 60 1"}, "config"),
        ({"config": ["save 60 1\nappendonly yes"]}, "config"),
    ],
)
def test_bad_option(options, name):
    """A value that makes no sense is refused, by the option's name."""
    with pytest.raises(ValueError, match=name):
        RedisServer(**options)


def test_never_started():
    """A server that was never started has no address, and stopping it does nothing."""
    server = RedisServer(password="hunter2")
    server.stop()
    server.kill()
    assert not server.is_running
    assert server.log == ""
    for attribute in ("port", "pid", "url"):
        with pytest.raises(RuntimeError):
            getattr(server, attribute)
    assert "hunter2" not in repr(server)
