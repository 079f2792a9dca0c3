"""A plugin of pytest that fails the run if anything that was said in it holds a secret that was used in it (P7).

To be imported by a conftest's ``pytest_configure``: modules of tests use secrets when they are collected. The work is
done by `secrets_watch`.
"""

from __future__ import annotations

import gc

import pytest

from tests.support.secrets_watch import SecretsWatch

WATCH = pytest.StashKey()


def pytest_configure(config):
    """Begin to watch."""
    config.stash[WATCH] = SecretsWatch()
    config.stash[WATCH].start()


def pytest_unconfigure(config):
    """Stop watching."""
    config.stash[WATCH].stop()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Note which test runs, and what it may do."""
    may_show = {sink for mark in item.iter_markers("shows_secrets") for sink in mark.args}
    if may_show:
        gc.collect()  # what others have left behind is theirs
    is_about_ordinary_ones = item.get_closest_marker("ordinary_secrets") is not None
    item.config.stash[WATCH].begin(item.nodeid, may_be_ordinary=is_about_ordinary_ones, may_show=may_show)
    try:
        return (yield)
    finally:
        if may_show:
            gc.collect()  # what it has left behind is its own


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    """Note what was printed."""
    report = yield
    item.config.stash[WATCH].note("output", f"{report.capstdout}\n{report.capstderr}")
    return report


@pytest.fixture(scope="session", autouse=True)
def no_secret_is_shown(pytestconfig):
    """Fail the run if anything that was said in it holds a secret."""
    yield
    gc.collect()
    if lines := pytestconfig.stash[WATCH].report():
        pytest.fail("\n".join(["secrets (P7):", *lines]), pytrace=False)
