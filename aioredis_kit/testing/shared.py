"""The server of a whole run: one for each worker of xdist, or one that all of them share.

A server that the workers share is started by xdist's controller, before them, and told to them with their input; it is
gone with the controller. What keeps it from being started is told to them in the same way, and fails the tests that
would have used it.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any

from aioredis_kit.testing.binaries import FoundURL, ServerNotFoundError
from aioredis_kit.testing.server import ServerStartError
from aioredis_kit.testing.servers import ServerAtURL, open_server

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from aioredis_kit.testing.plugin_options import Isolation, ServerOptions
    from aioredis_kit.testing.servers import ServerForTests

__all__ = ["SharedServer", "WorkerNumbers", "is_shared", "number_of_worker", "server_of_worker"]

_URL = "aioredis_kit_url"
_NUMBER = "aioredis_kit_number"
_PROBLEM = "aioredis_kit_problem"
_DATABASES_PER_WORKER = 4


class WorkerNumbers:
    """The numbers of the workers that run, from 0: who takes the place of one that crashed has its number."""

    def __init__(self) -> None:
        self._workers: dict[int, str] = {}

    def announce(self, worker: str, workerinput: dict[str, Any]) -> None:
        """Tell a worker its number."""
        number = next(each for each in count() if each not in self._workers)
        self._workers[number] = worker
        workerinput[_NUMBER] = number

    def give_back(self, worker: str) -> None:
        """Note that a worker has ended."""
        self._workers = {number: each for number, each in self._workers.items() if each != worker}


class SharedServer:
    """The one server of all workers, in the process that starts these.

    Lifecycle: started by the first `announce`, ended by `close`.

    Args:
        options: Which server is wanted.
    """

    def __init__(self, options: ServerOptions) -> None:
        self._options = options
        self._stack = ExitStack()
        self._told: dict[str, str] | None = None

    def announce(self, workerinput: dict[str, Any]) -> None:
        """Tell a worker where the server is, or why there is none."""
        if self._told is None:
            self._told = self._start(workerinput["workercount"])
        workerinput.update(self._told)

    def close(self) -> None:
        """End the server. Idempotent."""
        self._stack.close()

    def _start(self, workers: int) -> dict[str, str]:
        try:
            found = self._options.find()
            if isinstance(found, FoundURL):
                return {}  # each worker finds it by itself, and knows that it is somebody's
            server = self._stack.enter_context(open_server(found, databases=1 + workers * _DATABASES_PER_WORKER))
        except (ServerNotFoundError, ServerStartError) as exc:
            return {_PROBLEM: str(exc)}
        return {_URL: server.url}


def number_of_worker(workerinput: Mapping[str, Any]) -> int:
    """Return the number of this worker of xdist."""
    number: int = workerinput[_NUMBER]
    return number


def is_shared(server: ServerForTests, workerinput: Mapping[str, Any]) -> bool:
    """Return whether other workers of xdist may use the same server."""
    return not server.started_here or workerinput.get(_URL) == server.url


@contextmanager
def server_of_worker(
    options: ServerOptions, isolation: Isolation | None, workerinput: Mapping[str, Any]
) -> Iterator[ServerForTests]:
    """Run the server of this process's tests, or find the one that it shares with others.

    Args:
        options: Which server is wanted.
        isolation: What each worker has of its own, if that was given.
        workerinput: What xdist tells this worker; empty if there is no xdist.

    Raises:
        ServerNotFoundError: There is no such server.
        ServerStartError: It didn't start.
        ValueError: Its URL isn't one of a Redis server.
    """
    if _PROBLEM in workerinput:
        raise ServerNotFoundError(workerinput[_PROBLEM])
    if _URL in workerinput:
        yield ServerAtURL(workerinput[_URL], started_here=True)
        return
    found = options.find()
    if isinstance(found, FoundURL) and isolation == "server" and workerinput.get("workercount", 1) > 1:
        raise ServerNotFoundError(
            f"the server at a URL ({found.origin}) is one, and isolation by server wants one for each worker of xdist; "
            "leave the URL out, or isolate by database"
        )
    with open_server(found) as server:
        yield server
