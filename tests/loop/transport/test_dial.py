"""Opening sockets, cancelled at any turn of the loop."""

from __future__ import annotations

import asyncio
import gc
import ssl
import warnings

import pytest
import trustme

from aioredis_kit.options import Options
from aioredis_kit.transport.dial import Address, Dialler
from aioredis_kit.transport.tls import TLSContext
from tests.support.observing import outcome, sockets_to, turns


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(params=["TCP", "TLS"])
async def dialler(request, authority):
    """To a listener in this very loop, so that everything takes the same number of turns each time."""
    theirs = ours = None
    if request.param == "TLS":
        theirs = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("127.0.0.1").configure_cert(theirs)
        ours = ssl.create_default_context()
        authority.configure_trust(ours)
    loop = asyncio.get_running_loop()
    async with await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, ssl=theirs) as listener:
        address = Address(host="127.0.0.1", port=listener.sockets[0].getsockname()[1])
        yield Dialler(address=address, tls=ours and TLSContext(ours), server_hostname=None, options=Options().socket)
        await turns()


@pytest.mark.pins("5.2", "P6")
@pytest.mark.parametrize("delay", range(20))
async def test_cancelled_at_any_turn(dialler, delay):
    """The socket is closed, the garbage collector has nothing to complain about, and its number can be used again."""
    for _ in range(2):
        dialling = asyncio.create_task(dialler.dial(asyncio.Protocol, timeout=5))
        await turns(delay)
        if dialling.cancel():
            assert isinstance(await outcome(dialling), asyncio.CancelledError)
        else:
            transport, _ = dialling.result()
            transport.abort()
            del transport
        del dialling
        await turns()
        assert not sockets_to(dialler.address.port)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            gc.collect()
        assert not caught
