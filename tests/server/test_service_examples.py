"""The web service of the examples under load: its server is killed, and then it is itself told to stop."""

from __future__ import annotations

import asyncio
import itertools
import signal
import time
from dataclasses import dataclass, field

from aioredis_kit import create_client
from aioredis_kit.testing import RedisServer
from tests.support.examples import EXAMPLES, running
from tests.support.observing import until
from tests.support.visiting import ask_once, visit

PASSWORD = "s3cret-of-ada"


@dataclass(slots=True)
class Course:
    """What happened when, on the monotonic clock, and what visitors were told meanwhile."""

    timeout: float
    answers: list = field(default_factory=list)
    killed: float = 0.0
    started: float = 0.0
    recovered: float = 0.0
    stopped: float = 0.0

    def check(self, *, slack):
        """Every request was answered, and rightly so."""
        refused = [each for each in self.answers if each.status != 200]
        assert {each.status for each in refused} == {503}
        assert all(self.killed < each.ended and each.began < self.recovered for each in refused)
        assert max(each.seconds for each in self.answers) < self.timeout + slack
        assert {each.body for each in refused} == {b'{"detail":"Service Unavailable"}'}
        assert all(each.headers.get("retry-after") == "1" for each in refused if each.method == "GET")
        assert any(each.ended > self.stopped for each in self.answers)  # who was in flight at SIGTERM


async def test_a_service_whose_server_is_killed(is_long, capsys):
    """No hang; during the outage 503 within the deadline; afterwards none fails; at SIGTERM requests in flight end."""
    connections, outage, timeout, around = (200, 3.0, 1.0, 1.0) if is_long else (10, 0.35, 0.3, 0.05)
    course = Course(timeout)
    with RedisServer(password=PASSWORD) as server:
        url = f"{server.url}?command_timeout={timeout}"
        async with running(EXAMPLES / "fastapi_service.py", CACHE_URI=url, PORT="0") as service:
            port = int((await service.wait_for(r"running on http://[\d.]+:(\d+)"))[1])
            await until_it_serves(port)
            async with asyncio.TaskGroup() as visitors:
                for number in range(connections):
                    requests = [("GET", f"/visits/{number % 7}"), ("POST", f"/visits/{number % 7}")]
                    visitors.create_task(visit(port, course.answers, requests))
                await until(lambda: len(course.answers) > connections, timeout=20)
                await asyncio.sleep(around)  # a while of service
                course.killed = time.monotonic()
                server.kill()
                await asyncio.sleep(outage)  # the outage itself
                course.started = time.monotonic()
                await asyncio.to_thread(server.start)
                await until(lambda: served_since(course), timeout=20)
                course.recovered = time.monotonic()
                await asyncio.sleep(around)  # a while of service again
                in_flight = visitors.create_task(ask_once(port, "GET", "/visits/late/next"))
                code, seconds = await stop(service, server, course)
    course.check(slack=2.0 if is_long else 1.0)
    late = in_flight.result()
    assert (late.status, late.body, late.ended > course.stopped) == (200, b'{"came":true}', True)
    assert (code, seconds < 2) == (-signal.SIGTERM, True)  # uvicorn ends by the signal itself, when all is done
    assert any("Application shutdown complete" in line for line in service.lines)
    assert PASSWORD not in service.text
    assert not [line for line in service.lines if "Traceback" in line or "Warning" in line or line.startswith("ERROR")]
    if is_long:
        with capsys.disabled():
            tell(course, seconds)


async def until_it_serves(port):
    """Wait until it is connected: the deadline of the first request includes that."""
    async with asyncio.timeout(10):
        while (await ask_once(port, "GET", "/health")).status != 200:
            pass


def served_since(course):
    """Whether a request that was made since the server is back was served."""
    latest = itertools.takewhile(lambda each: each.ended > course.started, reversed(course.answers))
    return any(each.status == 200 and each.began > course.started for each in latest)


async def stop(service, server, course):
    """Stop the service while it waits for a visitor, who comes then; return its exit code and how long it took."""
    async with create_client(server.url) as client:
        async with asyncio.timeout(10):
            while not dict(await client.pubsub_numsub("visits:late"))[b"visits:late"]:
                await asyncio.sleep(0.01)
        course.stopped = time.monotonic()
        stopping = asyncio.create_task(service.stop())
        await service.wait_for("Shutting down")
        assert await client.publish("visits:late", "one more") == 1
        return await stopping


def tell(course, seconds):
    """Print the figures."""
    refused = [each for each in course.answers if each.status != 200]
    print(
        f"\n{len(course.answers)} answers, {len(refused)} of them 503, after {max(each.seconds for each in refused):.2f} s "
        f"at most; served again {course.recovered - course.started:.2f} s after the start; stopped in {seconds:.2f} s"
    )
