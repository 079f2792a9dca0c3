"""A network between namespaces: the server is in one of its own, and what passes is cut, lost, delayed, reordered.

Other than a proxy this leaves TCP to the kernel: nobody is told of a connection that is cut, and what is lost is sent
again. The packets pass through this process, between two TUN devices: so it needs no ``netem``, which many kernels lack.
"""

from __future__ import annotations

import fcntl
import heapq
import itertools
import os
import random
import select
import shutil
import struct
import subprocess
import tempfile
import threading
import time
import uuid
from pathlib import Path

from aioredis_kit.testing.binaries import find_binary

PORT = 6379
TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
LONGEST_PACKET = 2048


class NoNetworkError(Exception):
    """This system lets nobody make one, for the reason given."""


class Network:
    """A network namespace with a server in it, and what lies between.

    Lifecycle: ``with``.

    Attributes:
        url: Of the server, through the network.
        admin_url: Of the server, past the network.
        loss: Which share of the packets is lost.
        delay: How long each takes, in seconds.
        jitter: By how much that varies. Packets overtake each other by it.
        is_cut: Whether all are lost.
    """

    is_running = True

    def __init__(self):
        number = uuid.uuid4().int
        self._name = f"aioredis-kit-{number % 10**8}"
        self._here, self._there = f"ak{number % 10**8}a", f"ak{number % 10**8}b"
        self._subnet = f"10.{100 + number % 100}.{number // 100 % 250}"
        self.url = f"redis://{self._subnet}.2:{PORT}"
        self._directory = self._process = self._thread = None
        self._ends = ()
        self._is_over = False
        self.heal()

    @property
    def admin_url(self):
        return f"unix://{self._directory}/redis.sock"

    def __enter__(self):
        if reason := missing():
            raise NoNetworkError(reason)
        try:
            self._open()
        except (OSError, subprocess.CalledProcessError) as error:
            self.__exit__()
            said = error.stderr.decode().strip() if isinstance(error, subprocess.CalledProcessError) else error
            raise NoNetworkError(f"this system lets nobody make network namespaces: {said}") from error
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception):
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
        self._is_over = True
        if self._thread is not None:
            self._thread.join(10)
        for end in self._ends:
            os.close(end)
        subprocess.run(["ip", "netns", "del", self._name], check=False, capture_output=True)
        if self._directory is not None:
            shutil.rmtree(self._directory)

    def heal(self):
        """Let all packets pass, at once."""
        self.loss = self.delay = self.jitter = 0.0
        self.is_cut = False

    def resume(self):
        """Do nothing: the server is never paused."""

    def _open(self):
        self._directory = Path(tempfile.mkdtemp(prefix="aioredis-kit-"))
        run("ip", "netns", "add", self._name)
        self._ends = (tun(self._here), tun(self._there))
        run("ip", "link", "set", self._there, "netns", self._name)
        address(self._here, f"{self._subnet}.1", f"{self._subnet}.2")
        inside = ("ip", "netns", "exec", self._name)
        address(self._there, f"{self._subnet}.2", f"{self._subnet}.1", inside)
        self._thread = threading.Thread(target=self._relay, daemon=True)
        self._thread.start()
        self._process = subprocess.Popen(
            [
                *(*inside, find_binary().path, "--port", str(PORT), "--bind", f"{self._subnet}.2"),
                *("--unixsocket", f"{self._directory}/redis.sock", "--save", "", "--protected-mode", "no"),
            ],
            stdout=subprocess.DEVNULL,
        )

    def _relay(self):
        """Pass packets on, each when it is due."""
        numbers, due, others = itertools.count(), [], dict(zip(self._ends, reversed(self._ends), strict=True))
        while not self._is_over:
            wait = min(max(due[0][0] - time.monotonic(), 0), 0.05) if due else 0.05
            for end in select.select(self._ends, (), (), wait)[0]:
                packet = os.read(end, LONGEST_PACKET)
                if not (self.is_cut or random.random() < self.loss):
                    at = time.monotonic() + self.delay + random.uniform(0, self.jitter)
                    heapq.heappush(due, (at, next(numbers), others[end], packet))
            while due and due[0][0] <= time.monotonic():
                _, _, end, packet = heapq.heappop(due)
                os.write(end, packet)


def missing():
    """Return why there can be no such network here, if so."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "network namespaces are for root"
    if not shutil.which("ip"):
        return "there is no ip here: install iproute2"
    return None if Path("/dev/net/tun").exists() else "there is no /dev/net/tun here"


def tun(name):
    """Return a descriptor for a new TUN device, which ends with it."""
    end = os.open("/dev/net/tun", os.O_RDWR)
    try:
        fcntl.ioctl(end, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    except OSError:
        os.close(end)
        raise
    return end


def address(device, own, other, inside=()):
    """Give a device its address, and bring it up."""
    run(*inside, "ip", "addr", "add", own, "peer", other, "dev", device)
    run(*inside, "ip", "link", "set", device, "up")


def run(*words):
    subprocess.run(words, check=True, capture_output=True)
