"""A client that nobody refers to any more: open, it warns and ends by itself; ended, it goes without a word."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import warnings
import weakref

import pytest

from aioredis_kit import ConnectionLostError, create_client
from tests.support.observing import job_tasks, outcome, sockets_to, until


def forget(holder):
    """Drop the references that a list holds, and whatever cycles are left."""
    holder.clear()
    gc.collect()


@pytest.mark.pins("P6")
@pytest.mark.leaves_redis_clients_open(reason="it is forgotten")
async def test_a_client_that_is_forgotten_while_open(peer):
    """It warns and ends: no task, no socket. A view keeps it alive."""
    holder = [await create_client(peer.url).connect()]
    view = [holder[0].with_options(command_timeout=1)]
    forget(holder)
    assert await view[0].get("k") == b"k"
    with pytest.warns(ResourceWarning, match=f"client of 127.0.0.1:{peer.port} was not closed"):
        forget(view)
    await until(lambda: not job_tasks())
    assert not sockets_to(peer.port)


@pytest.mark.pins("P6")
@pytest.mark.leaves_redis_clients_open(reason="it is forgotten")
async def test_a_client_that_is_forgotten_where_warnings_are_errors(peer, monkeypatch):
    """It ends all the same."""
    unraisable = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    holder = [await create_client(peer.url).connect()]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        forget(holder)
    await until(lambda: not job_tasks())
    assert not sockets_to(peer.port)
    assert [each.exc_type for each in unraisable] == [ResourceWarning]
    unraisable.clear()


@pytest.mark.pins("P6")
@pytest.mark.leaves_redis_clients_open(reason="it is forgotten")
async def test_a_client_that_is_forgotten_in_another_thread(peer):
    """The last reference may be dropped anywhere; it ends on its own loop."""
    holder = [await create_client(peer.url).connect()]
    with pytest.warns(ResourceWarning, match="was not closed"):
        thread = threading.Thread(target=forget, args=(holder,))
        thread.start()
        thread.join()
    await until(lambda: not job_tasks())
    assert not sockets_to(peer.port)


@pytest.mark.pins("P6", "P2")
@pytest.mark.leaves_redis_clients_open(reason="it is forgotten")
async def test_a_client_that_is_forgotten_while_connecting(peer):
    """By a command whose caller has gone, say: it does not connect for ever."""
    peer.on("PING", None)
    holder = [create_client(peer.url)]
    task = asyncio.create_task(holder[0].get("k"))
    await peer.wait_for_command("PING")
    task.cancel()
    await outcome(task)
    del task
    await asyncio.sleep(0)  # only then asyncio lets go of the cancellation, whose traceback has the client
    with pytest.warns(ResourceWarning, match="was not closed"):
        forget(holder)
    await until(lambda: not job_tasks())


@pytest.mark.pins("P6")
@pytest.mark.parametrize("end", ["close", "destroy", "aclose", "never opened", "terminated"])
async def test_a_client_that_has_ended_may_be_forgotten(peer, end):
    """Without a word."""
    holder = [create_client(peer.url, reconnect_strategy=False)]
    if end != "never opened":
        await holder[0].connect()
    if end == "terminated":
        peer.connections[0].close()
        await holder[0].wait_for("terminated")
    elif end == "destroy":
        holder[0].destroy()
    elif end != "never opened":
        await getattr(holder[0], end)()
    forget(holder)
    await until(lambda: not job_tasks())


@pytest.mark.pins("P6")
@pytest.mark.leaves_redis_clients_open(reason="it is forgotten")
async def test_nothing_of_a_client_refers_to_it(peer):
    """Commands, a lost connection, listeners of the user's own: it is freed by counting alone."""
    holder = [await create_client(peer.url, reconnect_strategy=0.0).connect()]
    holder[0].on("error", print)
    await holder[0].get("k")
    peer.connections[0].close()
    await until(lambda: len(peer.connections) == 2 and holder[0].is_ready)
    gc.collect()
    gc.disable()
    try:
        with pytest.warns(ResourceWarning, match="was not closed"):
            holder.clear()
    finally:
        gc.enable()
    await until(lambda: not job_tasks())


async def test_an_error_beneath_a_callers_write_does_not_keep_the_caller_alive(client):
    """asyncio's error has the frames of whoever wrote; it is the cause of what is kept for long."""

    class Local:
        """What a caller has in its frame."""

    class Broken:
        """The transport's socket, whose connection has just been reset."""

        def __init__(self, sock):
            self._sock = sock

        def send(self, data):
            raise ConnectionResetError(104, "Connection reset by peer")

        def __getattr__(self, name):
            return getattr(self._sock, name)

    async def call():
        mine = Local()
        remembered.append(weakref.ref(mine))
        with pytest.raises(ConnectionLostError):
            await client.with_options(retry_unanswered="never").get("k")

    remembered = []
    connection = client._core.route(()).shared.queues[0].connection
    transport = connection._transport
    transport._sock = Broken(transport._sock)
    await asyncio.create_task(call())
    kept = connection.failure
    assert isinstance(kept.__cause__, ConnectionResetError)
    gc.collect()
    assert remembered[0]() is None
