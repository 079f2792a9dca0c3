"""The watch for secrets catches them: small sessions of pytest that show one, each in another way."""

from __future__ import annotations

import re

import pytest

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.shows_secrets("output", reason="the sessions inside show theirs in a source line that fails")

CONFTEST = """
def pytest_configure(config):
    config.addinivalue_line("markers", "shows_secrets(*sinks, reason)")
    config.addinivalue_line("markers", "ordinary_secrets(reason)")
    config.pluginmanager.import_plugin("tests.support.secrets_plugin")
"""

HEAD = """
import contextlib, logging, warnings
import pytest
from aioredis_kit import ClientClosedError, Credentials, create_client
from aioredis_kit.client.listeners import Listeners
from aioredis_kit.events import Failed, Orphaned
from aioredis_kit.wire.encoder import Encoder

SECRET = Credentials("ada", "s3cret-of-ada").password

class Loop:
    def call_soon(self, *args, **kwargs): pass
class Spawner:
    loop = Loop()

def hidden(error=ValueError):
    # An error whose own text is harmless, raised while one was handled that shows the secret.
    with contextlib.suppress(ClientClosedError):
        try:
            raise error(SECRET)
        except error:
            raise ClientClosedError("harmless") from None
"""

LEAKS = {
    "log": "logging.getLogger('aioredis_kit.some').debug('with %s', SECRET)",
    "log's exception": "logging.getLogger('asyncio').error('harmless', exc_info=RuntimeError(SECRET))",
    "log's arguments": "logging.getLogger('aioredis_kit').debug('%.3s', SECRET)",
    "exception": "with contextlib.suppress(ClientClosedError): raise ClientClosedError(SECRET)",
    "exception that was never raised": "ClientClosedError(SECRET)",
    "exception's note": "ClientClosedError('harmless').add_note(SECRET)",
    "exception's field": "ClientClosedError('harmless').lane = SECRET",
    "exception of others": "with pytest.raises(RuntimeError): raise RuntimeError(SECRET)",
    "hidden cause": "hidden()",
    "event": "Listeners().emit(Orphaned(('GET', SECRET), None), Spawner())",
    "event's error": "Listeners().add('error', print, only_once=False); Listeners().emit(Failed(OSError(SECRET)), Spawner())",
    "repr": "create_client(client_name=SECRET)",
    "warning": "with pytest.warns(UserWarning): warnings.warn('with ' + SECRET)",
    "output": "print(SECRET)",
    "in a URL": "create_client('redis://:an0ther-one@h', client_name='an0ther-one')",
    "as an option": "create_client(password='an0ther-one', client_name='an0ther-one')",
    "in AUTH": "Encoder().encode(('auth', b'ada', b'an0ther-one')); print('an0ther-one')",
    "in HELLO": "Encoder().encode(('HELLO', 3, 'AUTH', 'ada', 'an0ther-one', 'SETNAME', 'me')); print('an0ther-one')",
    "in ACL SETUSER": "Encoder().encode(('ACL SETUSER', 'ada', 'on', '>an0ther-one')); print('an0ther-one')",
    "in CONFIG SET": "Encoder().encode(('CONFIG', 'SET', 'requirepass', 'an0ther-one')); print('an0ther-one')",
    "in MIGRATE": "Encoder().encode(('MIGRATE', 'h', 1, 'k', 0, 9, 'AUTH2', 'ada', 'an0ther-one')); print('an0ther-one')",
    "in quotes": "print(repr(Credentials(None, 's3cret with \\\\').password))",
    "percent-encoded": "Credentials(None, 's3cret/'); print('s3cret%2F')",
    "shortened": "Credentials(None, 'a-l0ng-secret-with-many-more-words'); print('a-l0ng-secret-w...rds')",
}
HARMLESS = {
    "its own mark": "@pytest.mark.shows_secrets('output', reason='…')\ndef test_{}():\n    print(SECRET)\n",
    "a cause": "@pytest.mark.shows_secrets('cause', reason='…')\ndef test_{}():\n    hidden()\n",
    "an ordinary one": "@pytest.mark.ordinary_secrets(reason='…')\ndef test_{}():\n    Credentials('ada', 'pw')\n",
    "nothing": "def test_{}():\n    repr(create_client(password=SECRET))\n",
}


@pytest.fixture
def run(pytester):
    """Run a session with the watch over these tests."""
    pytester.makeconftest(CONFTEST)

    def run(tests, *arguments):
        pytester.makepyfile(HEAD + tests)
        root = re.sub(r"/tests/.*", "", __file__)
        pytester.makeini(f"[pytest]\npythonpath = {root}\n")
        return pytester.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:asyncio", *arguments)

    return run


def _tests(bodies):
    """Each says something else: what was said before isn't reported again."""
    tests = [
        f"def test_{number}():\n    {body}\n".replace("SECRET", f"(SECRET + '-{number}')").replace(
            "0ther", f"0ther{number}"
        )
        for number, body in enumerate(bodies)
    ]
    return "".join(tests)


@pytest.mark.pins("P7")
def test_whatever_shows_a_secret_fails_the_run(run):
    """And says where, but not the secret."""
    result = run(_tests(LEAKS.values()))
    text = result.stdout.str()
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=len(LEAKS), errors=1)
    shown = text[text.index("secrets (P7):") :]
    for number, (name, body) in enumerate(LEAKS.items()):
        if f"test_{number}: " not in shown:
            pytest.fail(f"not caught: {name}: {body}\n{shown}")
    assert shown.count("<secret>") >= len(LEAKS)
    assert not re.search("s3cret-of-ada|an0ther", shown.partition("Captured")[0])


@pytest.mark.pins("P7")
@pytest.mark.only_long
def test_what_can_not_be_looked_for_fails_the_run(run):
    """Also if a single one of the tests is run."""
    passwords = ["pw", "default", "123456"]
    result = run(_tests([f"[create_client(password=each) for each in {passwords}]", "pass"]), "-k", "test_0")
    result.assert_outcomes(passed=1, errors=1, deselected=1)
    for password in passwords:
        result.stdout.fnmatch_lines([f"the secret '{password}', in *::test_0, is too ordinary to be looked for: *"])


@pytest.mark.pins("P7")
@pytest.mark.only_long
def test_what_is_marked_or_harmless_fails_nothing(run):
    result = run("".join(text.format(number) for number, text in enumerate(HARMLESS.values())))
    result.assert_outcomes(passed=len(HARMLESS))
    assert result.ret == pytest.ExitCode.OK
