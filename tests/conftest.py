"""What all tests share: the long form, the watch for secrets, and a guard around every asynchronous test."""

from __future__ import annotations

import asyncio
import gc
import inspect
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

if TYPE_CHECKING:
    from collections.abc import Generator


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run the tests in the sizes of the acceptance lists")


def pytest_configure(config: pytest.Config) -> None:
    """Fail the run if it shows one of the secrets that it uses, from the collection on."""
    config.pluginmanager.import_plugin("tests.support.secrets_plugin")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what only the long form has."""
    if not config.getoption("--long"):
        left_out = [item for item in items if item.get_closest_marker("only_long")]
        items[:] = [item for item in items if not item.get_closest_marker("only_long")]
        config.hook.pytest_deselected(items=left_out)


def pytest_collection_finish() -> None:
    """See ``spare_collector``."""
    spare_collector()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, object, object]:
    """See ``spare_collector``. Between modules there is nothing but what stays."""
    try:
        return (yield)
    finally:
        if nextitem is None or nextitem.path != item.path:
            spare_collector()


def spare_collector() -> None:
    """Spare the garbage collector what stays for good: many tests call it, and would pay for all of it each time.

    pytest keeps its reports: in the end these are four hundred thousand objects, and a fifth of the time.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def is_long(request: pytest.FixtureRequest) -> bool:
    """Whether the tests run in their long form."""
    return bool(request.config.getoption("--long"))


@pytest_asyncio.fixture
async def guarded_loop():
    """Fail the test if it leaves a task behind, or if the loop had an exception that nobody handled."""
    loop = asyncio.get_running_loop()
    unhandled: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: unhandled.append(context))
    before = asyncio.all_tasks()
    yield
    leaked: set[asyncio.Task[Any]] = set()
    for _ in range(100):  # what was cancelled needs a few turns of the loop to end
        leaked = asyncio.all_tasks() - before - {asyncio.current_task()}
        if not leaked:
            break
        await asyncio.sleep(0)
    assert not leaked, f"the test left tasks behind: {leaked}"
    assert not unhandled, f"the loop had exceptions that nobody handled: {unhandled}"


@pytest.fixture(autouse=True)
def _guard(request: pytest.FixtureRequest) -> None:
    if inspect.iscoroutinefunction(getattr(request.node, "obj", None)):
        request.getfixturevalue("guarded_loop")
