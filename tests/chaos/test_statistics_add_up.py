"""Under faults every command ends in exactly one number of the statistics, and that is what its caller was told."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from aioredis_kit import create_client
from aioredis_kit.exceptions import CommandTimeoutError, KitError
from aioredis_kit.testing import FaultProxy


async def one(client, number, rng, told):
    """One command of one caller, who may give up; note what became of it."""
    patience = rng.choice([0.001, 0.01, 5, 5, 5])
    try:
        async with asyncio.timeout(patience):
            await (client.set("k", number) if number % 3 else client.get("k"))
    except CommandTimeoutError as error:  # a TimeoutError too
        told["timed_out"] += 1
        told["maybe_executed"] += error.maybe_executed
    except TimeoutError:
        told["cancelled"] += 1
    except KitError as error:
        told["lost" if error.maybe_executed else "unsent"] += 1
        told["maybe_executed"] += error.maybe_executed
    else:
        told["answered"] += 1


@pytest.mark.pins("P2", "P3")
@pytest.mark.parametrize("options", [{}, {"connections": 3}, {"disable_offline_queue": True}])
async def test_every_command_is_in_one_number(redis_server, options, is_long):
    rng = random.Random(8)  # the faults and the callers' patience
    told: Counter[str] = Counter()
    rounds, callers = (100, 100) if is_long else (8, 50)
    options = {"command_timeout": 0.1, "reconnect_strategy": 0.01} | options
    async with FaultProxy.for_url(redis_server.url) as proxy, create_client(proxy.url, **options) as client:
        for _ in range(rounds):
            tasks = [asyncio.create_task(one(client, number, rng, told)) for number in range(callers)]
            match rng.randrange(4):
                case 0:
                    proxy.cut(reset=rng.random() < 0.5)
                case 1:
                    proxy.stall("to_client")
                    asyncio.get_running_loop().call_later(rng.uniform(0.01, 0.2), proxy.resume)
                case 2:
                    proxy.delay(rng.uniform(0, 0.02))
            await asyncio.gather(*tasks)
            proxy.heal()
        commands = client.statistics().commands
    assert told.total() - told["maybe_executed"] == rounds * callers
    # Who is cancelled in the moment in which the reply is read does not get it, though it has come; nor an error.
    counted = {name: getattr(commands, name) for name in ("answered", "timed_out", "lost", "unsent")}
    assert all(number >= told[name] for name, number in counted.items())
    assert sum(counted.values()) + commands.cancelled == rounds * callers
    assert commands.maybe_executed >= told["maybe_executed"]  # and those that were cancelled in flight
    assert commands.maybe_executed <= told["maybe_executed"] + told["cancelled"]
