"""A client belongs to the loop of its first use: from elsewhere it refuses, forgotten it ends by itself."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from aioredis_kit.exceptions import ClientClosedError
from aioredis_kit.testing import resp
from tests.support.observing import until

USES = {
    "command": lambda client: client.get("k"),
    "connect": lambda client: client.connect(),
    "close": lambda client: client.close(),
    "aclose": lambda client: client.aclose(),
}


async def in_another_thread(use):
    """Run an asynchronous function on a loop and in a thread of its own; return what it returns or raises."""
    results = []

    async def capture():
        try:
            results.append(await use())
        except BaseException as error:  # noqa: BLE001  # it is the result
            results.append(error)

    thread = threading.Thread(target=lambda: asyncio.run(capture()))
    thread.start()
    await until(lambda: not thread.is_alive(), "the other thread's end")
    thread.join()
    return results[0]


# -- another loop, thread or process ----------------------------------------------------------------


@pytest.mark.pins("5.2", "P1")
@pytest.mark.parametrize("is_busy", [False, True], ids=["idle", "with commands in flight"])
@pytest.mark.parametrize("use", USES.values(), ids=USES.keys())
async def test_use_from_another_thread(peer, client, use, is_busy):
    """An error that names both, and no harm done."""
    flying = [asyncio.create_task(client.execute_command("SLOW", number)) for number in range(3 * is_busy)]
    await peer.wait_for_command("SLOW" if is_busy else "PING", count=len(flying) or 1)
    error = await in_another_thread(lambda: use(client))
    assert isinstance(error, RuntimeError)
    assert f"thread {threading.get_ident()}" in str(error)
    assert str(error).count("EventLoop") == 2
    assert client.is_ready
    peer.connections[0].send(*(resp.simple(str(number)) for number in range(len(flying))))
    assert await asyncio.gather(*flying) == [b"0", b"1", b"2"][: len(flying)]
    assert await client.get("k") == b"k"
    assert len(peer.connections) == 1


@pytest.mark.pins("P1")
async def test_a_command_from_another_thread_in_the_middle_of_a_batch(peer, client):
    """While this loop's turn has not ended, and a command could just be appended to its batch."""
    started, go_on = threading.Event(), threading.Event()

    async def use():
        started.set()
        go_on.wait(5)
        return await client.set("stranger", 1)

    stranger = asyncio.create_task(in_another_thread(use))
    await until(started.is_set)
    tasks = [asyncio.create_task(client.execute_command("SLOW", number)) for number in range(3)]
    await asyncio.sleep(0)
    go_on.set()
    time.sleep(0.05)  # noqa: ASYNC251  # the turn goes on while the stranger is at it
    error = await stranger
    assert isinstance(error, RuntimeError)
    assert "belongs to" in str(error)
    await peer.wait_for_command("SLOW", count=3)
    peer.connections[0].send(*(resp.simple(str(number)) for number in range(3)))
    assert await asyncio.gather(*tasks) == [b"0", b"1", b"2"]
    assert not [each for each in peer.commands if each.name == "SET"]


@pytest.mark.pins("5.2")
async def test_destroying_from_another_thread(peer, client):
    """Not from there: it is no other thread's business to touch this loop's transports."""

    async def destroy():
        client.destroy()

    error = await in_another_thread(destroy)
    assert isinstance(error, RuntimeError)
    assert client.is_ready
    assert await client.get("k") == b"k"


@pytest.mark.pins("5.2")
async def test_a_closed_client_may_move(peer, make_client):
    """It belongs to a loop until it is closed."""
    client = make_client()
    for _ in range(2):
        async with client:
            assert await client.get("k") == b"k"


def run_script(code, url):
    """Run a script in an interpreter of its own, in which warnings are errors; it must end well, and silently.

    Without asyncio's debug mode, which would say on stderr that the first import took its time.
    """
    code = textwrap.dedent(code).strip()
    command = [sys.executable, "-W", "error", "-c", code, url]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONASYNCIODEBUG"}
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, env=environment)
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stderr
    return ended.stdout


@pytest.mark.pins("5.2", "P1", "P2")
def test_use_in_a_forked_child(redis_url):
    """An error that names both processes; the parent's connection lives on, whatever the child tries."""
    script = """
        import asyncio, gc, os, sys
        from aioredis_kit import create_client

        def child(client):
            async def use(method, *args):
                try:
                    result = getattr(client, method)(*args)
                    await result if result is not None else None
                except RuntimeError as error:
                    assert str(os.getpid()) in str(error) and str(os.getppid()) in str(error), error
                else:
                    raise AssertionError(method)
            for call in (("get", "k"), ("connect",), ("close",), ("aclose",), ("destroy",)):
                asyncio.run(use(*call))
            asyncio.run(own())
            return 0

        async def own():
            async with create_client(sys.argv[1]) as client:
                assert await client.get("k") == b"parent"

        async def main():
            client = await create_client(sys.argv[1]).connect()
            await client.set("k", "parent")
            reader, writer = os.pipe()
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    asyncio.events._set_running_loop(None)
                    code = child(client)
                    del client
                    gc.collect()
                except BaseException as error:
                    sys.stderr.write(repr(error))
                finally:
                    sys.stderr.flush()
                    os._exit(code)
            while os.waitpid(pid, os.WNOHANG) == (0, 0):
                assert await client.get("k") == b"parent"
                await asyncio.sleep(0.01)  # between two looks at the child
            for _ in range(10):
                assert await client.get("k") == b"parent"
            os.close(reader), os.close(writer)
            await client.close()

        asyncio.run(main())
        print("done")
        """
    assert run_script(script, redis_url) == "done\n"


# -- its loop is closed -----------------------------------------------------------------------------


@pytest.mark.pins("5.2", "P2", "P6")
def test_asyncio_run_ends_the_client(redis_url):
    """What the user forgot to close ends with the loop, without a word; `connect()` opens it anew."""
    script = """
        import asyncio, sys
        from aioredis_kit import create_client

        client = create_client(sys.argv[1])
        ends = []
        client.on("end", lambda: ends.append(client.state.value))

        async def main():
            await client.connect()
            return await client.ping()

        for _ in range(3):
            assert asyncio.run(main())
            assert not client.is_open
        assert ends == ["closed"] * 3
        print("done")
        """
    assert run_script(script, redis_url) == "done\n"


@pytest.mark.pins("5.2", "P2")
def test_closing_what_has_ended_with_its_loop(redis_url):
    """On the next loop there is nothing left to wait for."""
    script = """
        import asyncio, sys
        from aioredis_kit import create_client

        async def main(client):
            assert await client.ping()

        async def end(client, close):
            await close()
            await client.connect()
            assert await client.ping()
            await close()

        for name in ("close", "aclose"):
            client = create_client(sys.argv[1])
            asyncio.run(main(client))
            asyncio.run(end(client, getattr(client, name)))
        print("done")
        """
    assert run_script(script, redis_url) == "done\n"


@pytest.mark.pins("5.2", "P2")
def test_the_loop_was_closed_under_it(redis_url):
    """Used on the next loop, however that is, it warns, drops what was pending and binds anew."""
    script = """
        import asyncio, gc, logging, sys, warnings
        from aioredis_kit import create_client

        async def monitor(client):
            async with client.monitor():
                pass

        async def lend(client):
            async with client.dedicated():
                pass

        async def destroy(client):
            client.destroy()

        uses = (
            lambda client: client.ping(),
            lambda client: client.connect(),
            destroy,
            lambda client: client.blpop("k", 0.01),
            lambda client: client.select(0),
            lambda client: client.pipeline().get("k").execute(),
            lambda client: client.subscribe("channel", print),
            lambda client: client.pubsub().subscribe("channel"),
            monitor,
            lend,
        )

        async def main(client, number, use):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                await use(client)
                gc.collect()
            texts = [str(each.message) for each in caught if issubclass(each.category, ResourceWarning)]
            assert [text for text in texts if "event loop" in text], (number, caught)
            await client.connect()
            assert await client.ping()
            await client.close()

        logging.disable(logging.ERROR)  # asyncio's word about the tasks that were pending
        for number, use in enumerate(uses):
            client = create_client(sys.argv[1])
            loop = asyncio.new_event_loop()
            loop.run_until_complete(client.connect())
            assert loop.run_until_complete(client.ping())
            loop.close()
            asyncio.run(main(client, number, use))
        print("done")
        """
    assert run_script(script, redis_url) == "done\n"


@pytest.mark.pins("5.2", "P2")
def test_the_loop_was_closed_under_clients_that_share_a_cache(redis_url):
    """None of them is in the others' way, used or not; and what they had read is not found on the next loop."""
    script = """
        import asyncio, gc, logging, sys, warnings
        from aioredis_kit import ClientSideCache, create_client

        logging.disable(logging.ERROR)  # asyncio's word about the tasks that were pending
        warnings.simplefilter("ignore", ResourceWarning)
        cache = ClientSideCache()
        clients = [create_client(sys.argv[1], client_side_cache=cache) for _ in range(3)]

        async def leave():
            for client in clients:
                await client.set("k", "v")
                assert await client.get("k") == b"v"
            reads = [asyncio.create_task(client.get("other")) for client in clients for _ in range(3)]
            await asyncio.sleep(0)
            return reads

        loop = asyncio.new_event_loop()
        reads = loop.run_until_complete(leave())
        loop.close()
        assert any(cache.joined.values())
        unraisable = []
        sys.unraisablehook = unraisable.append
        del reads, loop
        gc.collect()

        async def main():
            for client in clients[:2]:
                assert await client.get("k") == b"v"
                await client.set("k", "v")
            assert cache.stats().hits == 0
            for client in clients[:2]:
                await client.close()
            clients.clear()
            gc.collect()

        asyncio.run(main())
        assert not cache.entries
        assert not [each for each in unraisable if not isinstance(each.exc_value, ResourceWarning)], unraisable
        print("done")
        """
    assert run_script(script, redis_url) == "done\n"


def test_the_loop_was_closed_under_it_and_a_hook_raises(redis_url):
    """There is no loop on which listeners could hear of that: it is logged, and the call goes on."""
    script = """
        import asyncio, logging, sys, warnings
        from aioredis_kit import CommandHook, create_client

        logging.disable(logging.ERROR)  # asyncio's word about the tasks that were pending
        warnings.simplefilter("ignore", ResourceWarning)
        raising = type("Raising", (CommandHook,), {"before": lambda *_: 1 / 0})()
        client = create_client(sys.argv[1], hooks=raising)
        client.on("error", lambda _: None)
        loop = asyncio.new_event_loop()
        assert loop.run_until_complete(client.ping())
        loop.close()

        async def main():
            assert await client.ping()
            await client.close()

        asyncio.run(main())
        print("done")
        """
    assert run_script(script, redis_url) == "done\n"


@pytest.mark.pins("5.2", "P2")
def test_the_loop_was_closed_under_it_in_the_middle_of_a_turn(redis_url):
    """What had been issued in that turn is dropped; what is issued on the next loop is answered."""
    script = """
        import asyncio, logging, sys, warnings
        from aioredis_kit import create_client

        logging.disable(logging.ERROR)  # asyncio's word about the tasks that were pending
        warnings.simplefilter("ignore", ResourceWarning)
        client = create_client(sys.argv[1])

        async def leave():
            assert await client.ping()
            tasks = [asyncio.create_task(client.incr("n")) for _ in range(5)]
            await asyncio.sleep(0)
            raise SystemExit

        loop = asyncio.new_event_loop()
        try:
            loop.run_until_complete(leave())
        except SystemExit:
            loop.close()

        async def main():
            assert await client.ping()
            assert int(await client.get("n") or 0) <= 1  # the first of them may have left at once
            await client.close()

        asyncio.run(main())
        print("done")
        """
    assert run_script(script, redis_url) == "done\n"


@pytest.mark.pins("5.2", "P2")
def test_the_loop_was_closed_under_it_and_warnings_are_errors(redis_url):
    """The warning is raised once; after that the client is usable."""
    script = """
        import asyncio, gc, logging, sys, warnings
        from aioredis_kit import create_client

        logging.disable(logging.ERROR)  # asyncio's word about the tasks that were pending
        client = create_client(sys.argv[1])
        loop = asyncio.new_event_loop()
        loop.run_until_complete(client.connect())
        loop.close()
        sys.unraisablehook = lambda _: None  # the forgotten transport's warning

        async def main():
            raised = 0
            for _ in range(3):
                try:
                    assert await client.ping()
                except ResourceWarning:
                    raised += 1
            assert raised == 1, raised
            await client.close()

        asyncio.run(main())
        print("done")
        """
    assert run_script(script, redis_url) == "done\n"


@pytest.mark.pins("4.1")
async def test_the_error_of_a_closed_client_is_no_runtime_error(client):
    """Used on its own loop after the end it is closed, not misplaced."""
    await client.close()
    error = await in_another_thread(lambda: client.get("k"))
    assert isinstance(error, ClientClosedError)


def test_a_cached_read_in_a_forked_child_that_goes_on(redis_url):
    """In the middle of its parent's loop: nothing is found there either, and the error names both processes."""
    script = """
        import asyncio, os, sys
        from aioredis_kit import CacheOptions, create_client

        async def main():
            async with create_client(sys.argv[1], client_side_cache=CacheOptions()) as client:
                for _ in range(2):
                    assert await client.get("k") is None
                assert client.client_side_cache.stats().hits == 1
                pid = os.fork()
                if pid == 0:
                    code = 1
                    try:
                        for call in (client.get("k"), client.set("k", "v")):
                            try:
                                call.send(None)
                            except RuntimeError as error:
                                assert str(os.getpid()) in str(error) and str(os.getppid()) in str(error), error
                            else:
                                raise AssertionError("it was answered")
                        code = 0
                    except BaseException as error:
                        sys.stderr.write(repr(error))
                    finally:
                        sys.stderr.flush()
                        os._exit(code)
                assert os.waitpid(pid, 0)[1] == 0
                assert await client.get("k") is None

        asyncio.run(main())
        print("done")
        """
    assert run_script(script, redis_url) == "done\n"
