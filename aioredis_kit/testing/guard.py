"""A guard that fails a test which leaves a client open, and says where that was made.

A client that is left open has tasks, timers and a socket; on the loop of the next test it is the "attached to a
different loop" that nobody can explain. A test answers for the clients that are made while it is set up, runs and is
torn down.

Rules of this file:

1. A client that was made by a fixture of a broader scope, or when modules were imported, is not the test's. Nor is one
   that a registry makes in its block, which is where it is closed: an application's, for example, whose lifespan is a
   fixture of a broader scope.
2. A test that fails is not blamed for what it had no time to close.
3. Nothing is closed here: the loop that this would take may be gone.
"""

from __future__ import annotations

import sys
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

    from aioredis_kit.client.base import ClientCore

__all__ = ["MARKER", "OpenClientGuard"]

MARKER = "leaves_redis_clients_open"
_REMEDY = (
    "close it (`async with`, close(), destroy()), have the fixture redis_client_factory make it, or mark the test "
    f"with @pytest.mark.{MARKER}(reason=…)"
)


@dataclass(slots=True)
class _Made:
    core: weakref.ref[ClientCore]
    place: str
    left: str = ""
    """Where it was connected to, if it was left open."""


class OpenClientGuard:
    """A plugin of pytest; the witness of all clients while a test runs."""

    def __init__(self) -> None:
        self._made: list[_Made] = []
        self._broader_fixtures = 0  # that are being set up
        self._has_failed = False

    # As the clients' witness.

    def made(self, core: ClientCore) -> None:
        """See ``Witness``."""
        if not self._broader_fixtures:
            self._made.append(_Made(weakref.ref(core), _place_of_caller()))

    def owned(self, core: ClientCore) -> None:
        """See ``Witness``."""
        for each in self._made:
            if each.core() is core:
                self._made.remove(each)
                return

    def left_open(self, core: ClientCore) -> None:
        """See ``Witness``."""
        for each in self._made:
            if each.core() is core:
                each.left = str(core.equipment.dialler.address)

    # As a plugin.

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self) -> Generator[None, Any, Any]:
        """Be the witness for the time of a test."""
        from aioredis_kit.client import witness  # noqa: PLC0415 -- loading the plugin is to be cheap

        before, witness.present = witness.present, self
        try:
            return (yield)
        finally:
            witness.present = before
            self._forget()

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Generator[None, Any, Any]:
        """Leave out what lives longer than the test."""
        is_broader = fixturedef.scope != "function"
        self._broader_fixtures += is_broader
        try:
            return (yield)
        finally:
            self._broader_fixtures -= is_broader

    def pytest_runtest_makereport(self, call: pytest.CallInfo[None]) -> None:
        """Note that the test failed."""
        if call.excinfo is not None:
            self._has_failed = True

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Fail a test that has left clients open, after all that its fixtures close."""
        result = yield
        for each in self._made:
            core = each.core()
            if core is not None and core.is_open:
                self.left_open(core)
        left = [f"{each.left}, made at {each.place}" for each in self._made if each.left]
        is_blamed = not self._has_failed and item.get_closest_marker(MARKER) is None
        self._forget()  # a plugin may run the test again
        if left and is_blamed:
            noun = "a client" if len(left) == 1 else f"{len(left)} clients"
            pytest.fail(f"the test left {noun} open: {'; '.join(left)}. To mend it: {_REMEDY}", pytrace=False)
        return result

    def _forget(self) -> None:
        self._made.clear()
        self._has_failed = False


def _place_of_caller() -> str:
    """Return the line outside of this package that made the client that is being made."""
    frame = sys._getframe(1)  # noqa: SLF001 -- traceback reads the source files, which is a hundred times as slow
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "aioredis_kit":
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
