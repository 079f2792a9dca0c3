"""What goes wrong. Each fault happens, lasts a moment and is mended, whatever else goes wrong at the time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import time

from redis.exceptions import RedisError

from tests.support.scripts import BUSY


async def cut(world):
    world.proxy.cut()


async def reset(world):
    world.proxy.cut(reset=True)


async def half_close(world):
    world.proxy.half_close(world.rng.choice(("to_server", "to_client")))


async def cut_within_a_reply(world):
    world.proxy.cut_after(world.rng.randrange(200), world.rng.choice(("to_server", "to_client")), scope="all")
    await _moment(world)


async def stall(world):
    world.proxy.stall(world.rng.choice(("to_server", "to_client", "both")))
    await _moment(world, 0.05, 0.6)


async def delay(world):
    world.proxy.delay(world.rng.uniform(0.001, 0.05))
    await _moment(world)


async def split(world):
    world.proxy.split(world.rng.choice(("to_server", "to_client")))
    await _moment(world)


async def damage(world):
    """Some bytes of replies are changed."""
    world.is_damaged = True
    for _ in range(world.rng.randrange(1, 6)):
        world.proxy.corrupt("to_client", skip=world.rng.randrange(2000), mask=world.rng.randrange(1, 256))
        await _moment(world)


async def refuse(world):
    world.proxy.refuse()
    world.proxy.cut(reset=True)
    await _moment(world)


async def kill(world):
    """``kill -9``; it comes back with what it had acknowledged, or, without persistence, with nothing."""
    world.kill()
    await asyncio.to_thread(world.server.start)


async def kill_and_load(world):
    """As ``kill``, and it may still be loading what it had."""
    world.kill()
    await asyncio.to_thread(lambda: world.server.start(wait_loaded=False))


async def load(world):
    """It loads its data anew, and answers LOADING meanwhile."""
    seconds = world.rng.uniform(0.05, 0.5)
    await world.fill()  # it may have lost that
    await world.admin.config_set("key-load-delay", round(seconds / await world.admin.dbsize() * 1e6))
    await world.admin.execute_command("DEBUG", "RELOAD")


async def pause(world):
    """SIGSTOP, and SIGCONT later."""
    world.server.pause()
    await _moment(world, 0.05, 0.7)
    world.server.resume()


async def client_kill(world):
    kind = world.rng.choice(("normal", "pubsub"))
    await world.admin.client_kill_filter(_type=kind, skipme=True)


async def client_kill_one(world):
    found = [each["id"] for each in await world.admin.client_list() if each["name"] == "tested"]
    if found:
        await world.admin.client_kill_filter(_id=world.rng.choice(found))


async def client_pause(world):
    await world.admin.client_pause(world.rng.randrange(50, 300), all=world.rng.random() < 0.5)


async def busy_script(world):
    await world.admin.eval(BUSY, 0, world.rng.randrange(30, 200) / 1000)


async def no_room(world):
    """Writes are refused: out of memory."""
    await world.admin.config_set("maxmemory", "1")
    await _moment(world)
    await world.admin.config_set("maxmemory", "0")


async def no_more_clients(world):
    await world.admin.config_set("maxclients", "1")
    await world.admin.client_kill_filter(_type="normal", skipme=True)
    await _moment(world)
    await world.admin.config_set("maxclients", "10000")


async def blocked_loop(world):
    """What a user's own code may do to the event loop."""
    time.sleep(0.2)  # noqa: ASYNC251  # that is the fault


async def no_descriptors(world):
    """No socket can be opened."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) - 1, hard))
    try:
        world.proxy.cut()
        await _moment(world)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def cancellations(world):
    world.cancels = True
    await _moment(world)
    world.cancels = False


async def raising_listeners(world):
    def listener(*_):
        raise ValueError("what a user's listener may do")

    names = ("connect", "ready", "reconnecting", "invalidate", "ping-interval", "reply-orphaned")
    for client in world.clients:
        for name in names:
            client.on(name, listener)
    world.proxy.cut()
    await _moment(world)
    for client in world.clients:
        for name in names:
            client.off(name, listener)


FAULTS = {
    each.__name__: each
    for each in (
        *(cut, reset, half_close, cut_within_a_reply, stall, delay, split, damage, refuse),
        *(kill, kill_and_load, load, pause, client_kill, client_kill_one, client_pause, busy_script),
        *(no_room, no_more_clients, blocked_loop, no_descriptors, cancellations, raising_listeners),
    )
}


async def partition(world):
    """No packet passes."""
    world.network.is_cut = True
    await _moment(world, 0.05, 1.0)


async def bursts(world):
    """No packet passes for some dozens of milliseconds, now and then."""
    for _ in range(4):
        world.network.is_cut = True
        await _moment(world, 0.01, 0.06)
        world.network.is_cut = False
        await _moment(world, 0.05, 0.15)


async def lost_packets(world):
    world.network.loss = world.rng.uniform(0.01, 0.2)
    await _moment(world, 0.2, 1.0)


async def late_packets(world):
    world.network.delay = world.rng.uniform(0.005, 0.05)
    await _moment(world, 0.2, 0.6)


async def reordered_packets(world):
    world.network.delay = world.network.jitter = world.rng.uniform(0.001, 0.02)
    await _moment(world, 0.2, 0.6)


NETWORK_FAULTS = {each.__name__: each for each in (partition, bursts, lost_packets, late_packets, reordered_packets)}
"""In a network of its own: see ``network``."""


async def disturb(world, faults, seconds, *, first=0):
    """Let faults happen one after the other, for a while; in the end all is well.

    Args:
        world: Where.
        faults: Their names.
        seconds: For how long.
        first: How many have happened before.

    Returns:
        The names of those that have happened.
    """
    end = time.monotonic() + seconds
    happened = []
    while time.monotonic() < end:
        # So that each is the same when the seed is played again.
        world.rng = world.chance("fault", first + len(happened))
        await _moment(world, 0.0, 0.15)
        happened.append(world.rng.choice(faults))
        with contextlib.suppress(RedisError):  # of the admin's own connection: a fault of its own
            await (FAULTS | NETWORK_FAULTS)[happened[-1]](world)
        world.proxy.heal()
        world.server.resume()
    if not world.server.is_running:
        await asyncio.to_thread(world.server.start)
    await world.admin.config_set("maxmemory", "0")
    await world.admin.config_set("maxclients", "10000")
    await world.admin.client_unpause()
    world.cancels = False
    return happened


async def _moment(world, least=0.02, most=0.25):
    await asyncio.sleep(world.rng.uniform(least, most))
