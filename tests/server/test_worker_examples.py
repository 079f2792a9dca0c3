"""SIGTERM to a worker in the middle of its work: the job in flight is finished, nothing is lost, no warning."""

from __future__ import annotations

import asyncio
import contextlib
import signal

import pytest

from aioredis_kit import create_client
from aioredis_kit.testing import RedisServer
from tests.support.examples import EXAMPLES, running

TASKIQ = ("-m", "taskiq", "worker", "examples.taskiq_worker:broker", "--workers", "1", "--max-async-tasks", "1")


@pytest.mark.only_long
async def test_a_plain_worker_finishes_its_job(redis_client, redis_url):
    await redis_client.rpush("jobs", "first", "second")
    async with running(EXAMPLES / "worker.py", JOBS_URI=redis_url) as worker:
        await worker.wait_for("working on first")
        code, _ = await worker.stop()
    assert (code, worker.lines) == (0, ["worker-1 is ready", "working on first", "worker-1 has stopped"])
    assert await redis_client.lrange("results", 0, -1) == [b"first: done"]
    assert await redis_client.lrange("jobs", 0, -1) == [b"second"]
    assert not await redis_client.exists("jobs:worker-1")


@pytest.mark.only_long
async def test_an_idle_plain_worker_stops(redis_client, redis_url):
    async with running(EXAMPLES / "worker.py", JOBS_URI=redis_url) as worker:
        await worker.wait_for("is ready")
        await until_blocked(redis_client, "blmove")
        code, seconds = await worker.stop()
    assert (code, worker.lines) == (0, ["worker-1 is ready", "worker-1 has stopped"])
    assert seconds < 2


@pytest.mark.only_long
async def test_a_plain_worker_that_was_killed_does_its_job_again(redis_client, redis_url):
    await redis_client.rpush("jobs", "first", "second")
    async with running(EXAMPLES / "worker.py", JOBS_URI=redis_url) as worker:
        await worker.wait_for("working on first")
        worker.send(signal.SIGKILL)
        await worker.wait()
    async with running(EXAMPLES / "worker.py", JOBS_URI=redis_url) as worker:
        await worker.wait_for("working on second")
        code, _ = await worker.stop()
    assert code == 0
    assert await redis_client.lrange("results", 0, -1) == [b"first: done", b"second: done"]
    assert not await redis_client.exists("jobs", "jobs:worker-1")


@pytest.mark.only_long
async def test_a_plain_worker_survives_its_server():
    """It dies while the worker waits for a job, and while the worker works on one."""
    with RedisServer(persistence="aof") as server:
        url = f"{server.url}?command_timeout=1"
        async with (
            running(EXAMPLES / "worker.py", JOBS_URI=url) as worker,
            create_client(url) as client,
        ):
            await worker.wait_for("is ready")
            await until_blocked(client, "blmove")
            server.kill()
            await worker.wait_for("once more")
            server.start()
            await client.rpush("jobs", "first", "second")
            await worker.wait_for("working on first")
            server.kill()
            server.start()
            await worker.wait_for("working on second")
            code, _ = await worker.stop()
            assert code == 0
            assert set(await client.lrange("results", 0, -1)) == {b"first: done", b"second: done"}
            assert not await client.exists("jobs", "jobs:worker-1")


@pytest.mark.only_long
async def test_a_worker_of_arq_finishes_its_job(redis_client, redis_url):
    pytest.importorskip("arq")
    for name in ("ada", "grace"):
        await run(EXAMPLES / "arq_worker.py", name, REDIS_URL=redis_url)
    async with running(EXAMPLES / "arq_worker.py", REDIS_URL=redis_url) as worker:
        await worker.wait_for("writing to ada")
        code, _ = await worker.stop()
    assert (code, worker.lines) == (0, ["writing to ada", "stopped"])
    assert await redis_client.lrange("letters", 0, -1) == [b"ada"]
    assert await redis_client.zcard("arq:queue") == 1  # and the other is done when there is a worker again
    async with running(EXAMPLES / "arq_worker.py", REDIS_URL=redis_url) as worker:
        await worker.wait_for("writing to grace")
        assert (await worker.stop())[0] == 0
    assert await redis_client.lrange("letters", 0, -1) == [b"ada", b"grace"]
    assert not await redis_client.zcard("arq:queue")


@pytest.mark.only_long
async def test_a_worker_of_taskiq_finishes_its_task(redis_client, redis_url):
    pytest.importorskip("taskiq")
    for name in ("ada", "grace"):
        await run(EXAMPLES / "taskiq_worker.py", name, REDIS_URL=redis_url)
    async with running(*TASKIQ, REDIS_URL=redis_url) as worker:
        await worker.wait_for("writing to ada")
        code, _ = await worker.stop()
    assert (code, [line for line in worker.lines if "WARN" in line or "ERROR" in line]) == (0, [])
    assert await redis_client.lrange("letters", 0, -1) == [b"ada"]
    assert await redis_client.llen("tasks") == 1
    assert not await redis_client.exists("tasks:worker-1")


@pytest.mark.only_long
async def test_an_idle_worker_of_taskiq_stops_and_one_that_was_killed_starts_anew(redis_client, redis_url):
    pytest.importorskip("taskiq")
    async with running(*TASKIQ, REDIS_URL=redis_url) as worker:
        await until_blocked(redis_client, "blmove")
        code, seconds = await worker.stop()
        assert (code, [line for line in worker.lines if "WARN" in line or "ERROR" in line]) == (0, [])
        assert seconds < 2
    await run(EXAMPLES / "taskiq_worker.py", "ada", REDIS_URL=redis_url)
    async with running(*TASKIQ, REDIS_URL=redis_url) as worker:
        await worker.wait_for("writing to ada")
    assert await redis_client.llen("tasks:worker-1") == 1  # killed in the middle of it
    async with running(*TASKIQ, REDIS_URL=redis_url) as worker:
        await worker.wait_for("writing to ada")
        assert (await worker.stop())[0] == 0
    assert await redis_client.lrange("letters", 0, -1) == [b"ada"]


@pytest.mark.only_long
async def test_taskiq_redis_on_the_stock_pool(redis_client):
    """Its brokers make a pool from a URL, and work with the client's instead."""
    broker = pytest.importorskip("taskiq_redis").RedisStreamBroker("redis://", xread_count=1)
    broker.connection_pool = redis_client.connection_pool
    await broker.startup()
    await broker.task("greet")(lambda name: name).kiq("ada")
    async with contextlib.aclosing(broker.listen()) as messages:
        message = await anext(messages)
    assert b"ada" in message.data
    assert (await redis_client.xpending("taskiq", "taskiq"))["pending"] == 1
    await message.ack()
    assert (await redis_client.xpending("taskiq", "taskiq"))["pending"] == 0
    await broker.shutdown()
    assert await redis_client.ping()


async def run(*command, **variables):
    """Run a program that ends by itself and has nothing to warn of."""
    async with running(*command, **variables) as program:
        assert await program.wait() == 0, program.text


async def until_blocked(client, command):
    """Wait until somebody waits in a blocking command."""
    async with asyncio.timeout(10):
        while not any(each["cmd"] == command and "b" in each["flags"] for each in await client.client_list()):
            await asyncio.sleep(0.01)
