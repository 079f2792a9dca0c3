"""Watches the whole run for secrets: what tests give to clients must not be in anything that the package says (P7).

Nobody keeps a list. What is secret is learnt where it comes in: credentials, options, URLs, commands, the
configuration of servers. What is said is noted where it is said: log records of any level, exceptions with all that
they carry, events, reprs, warnings, captured output. At the end of the session all of one is looked for in all of
the other, and a hit fails the run: `secrets_plugin` does that.

Rules of this file:

1. The scan can't go blind unnoticed: a secret that is too ordinary to be looked for fails the run as well, unless its
   test says why it needs that (``ordinary_secrets(reason=…)``).
2. A test whose own code shows a secret says where, and why: ``shows_secrets("exception", reason=…)``.
3. An object is looked at when it goes, by a finalizer: so it is seen in its last state, whoever caught it, and nothing
   is kept alive. Therefore noting takes no lock and runs anywhere; only text is kept.
4. What is added later is one line in `_watch`: ``self.tell("trace", owner, "method")``.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import itertools
import logging
import pkgutil
import re
import warnings
from bisect import bisect_right
from enum import Enum
from urllib.parse import quote, unquote

import pytest
from redis.exceptions import RedisError

import aioredis_kit
from tests.support import observing

LOGGERS = ("aioredis_kit", "asyncio", "redis")
SAMPLE = 500
"""How many exceptions or events of one type are looked at in one test. A chaos test makes hundreds of thousands."""
SAMPLE_OF_REPRS = 3
"""The same for reprs, most of which say the same."""
LONGEST = 10_000
"""So many characters of a text are looked at. What is longer is some payload's."""
LEAST = 6
"""So many characters a secret must have, so that it isn't found by chance."""
SHORTENED = 24
"""From so many characters on what shortens a text, as ``reprlib`` does, leaves enough of a secret: its beginning."""
BEGINNING = 12
_USER_INFO = re.compile(r"://[^:/?#]*:(.*)@")
_RULE_OF_A_USER = re.compile(r"(?:^|\s)[<>](\S+)")
_SECRET_SETTINGS = ("requirepass", "masterauth", "primaryauth", "tls-key-file-pass", "tls-client-key-file-pass")
_NAMES = ("AUTH", "HELLO", "MIGRATE", "CONFIG", "CONFIG SET", "ACL", "ACL SETUSER", "SENTINEL", "SENTINEL SET")


def is_ordinary(secret):
    """Whether a secret could stand in any text by chance: it is short, or no more than a word or a number."""
    return len(secret) < LEAST or secret.isalpha() or secret.isdigit()


def secrets_of(args):
    """Return the secrets in a command. Not by the package's table, which is among what is watched."""
    words = [_text(arg) for arg in args]
    words[:1] = words[0].split() or [""]
    name, second = words[0].upper(), words[1].upper() if len(words) > 1 else ""
    if name == "AUTH":
        return words[1:] if len(words) == 2 else words[2:]
    if name in ("HELLO", "MIGRATE"):
        distances = {"AUTH": 2 if name == "HELLO" else 1, "AUTH2": 2}
        return [
            words[place + distances[word.upper()]]
            for place, word in enumerate(words)
            if word.upper() in distances and place + distances[word.upper()] < len(words)
        ]
    if (name, second) == ("ACL", "SETUSER"):
        return [word[1:] for word in words[3:] if word[:1] in ("<", ">")]
    if second == "SET":
        settings = _SECRET_SETTINGS if name == "CONFIG" else ("auth-pass", "sentinel-pass")
        return [value for setting, value in itertools.pairwise(words) if setting.lower() in settings]
    return []


def chain_of(error):
    """Return an exception and all that it carries: causes, contexts (hidden ones too), members of groups."""
    found, waiting = {}, [error]
    while waiting:
        each = waiting.pop()
        if each is not None and id(each) not in found:
            found[id(each)] = each
            waiting += [each.__cause__, each.__context__, *getattr(each, "exceptions", ())]
    return list(found.values())


def said_by(error):
    """Return what one exception says: text, repr, notes and fields. Not its traceback, whose source is the test's."""
    fields = dict(vars(error))
    fields.pop("replies", None)  # what a server has answered to the caller is no text of ours
    return "\n".join([str(error), repr(error), repr(fields)])


def _text(word):
    return (
        bytes(word).decode("utf-8", "backslashreplace")
        if isinstance(word, bytes | bytearray | memoryview)
        else str(word)
    )


def _forms_of(secret):
    """Return a secret as it is, and as it is found in a repr, in a URL, and in what was shortened."""
    forms = {secret, repr(secret)[1:-1], repr(secret.encode("utf-8", "surrogatepass"))[2:-1]}
    forms.add(quote(secret, safe="", errors="backslashreplace"))
    if len(secret) >= SHORTENED:
        forms.add(secret[:BEGINNING])
    return forms


def _encoded(text):
    return text.encode("utf-8", "surrogatepass")


def _masked(text, forms):
    longest_first = sorted(forms, key=len, reverse=True)
    return functools.reduce(lambda rest, form: rest.replace(form, "<secret>"), longest_first, text)


class SecretsWatch:
    """Learns secrets, notes what is said, and compares.

    Attributes:
        secrets: All that were learnt and can be looked for.
        ordinary: Those that can't, and in which test.
        texts: All that was said: where, and in which test.
        test: The test that runs.
        may_be_ordinary: Whether that one may use ordinary secrets.
        may_show: Where it may show some.
    """

    def __init__(self):
        self.secrets = set()
        self.ordinary = {}
        self.texts = {}
        self.test = "what was imported to collect the tests"
        self.may_be_ordinary = False
        self.may_show = frozenset()
        self._looked_at = {}
        self._undo = []

    def begin(self, test, *, may_be_ordinary, may_show):
        """Note which test runs."""
        self.test, self.may_be_ordinary, self.may_show = test, may_be_ordinary, frozenset(may_show)
        self._looked_at = {}

    def learn(self, secret):
        """Take a secret."""
        if not isinstance(secret, str | bytes | bytearray) or not secret:
            return
        secret = _text(secret)
        if not is_ordinary(secret):
            self.secrets.add(secret)
        elif not self.may_be_ordinary:
            self.ordinary.setdefault(secret, self.test)

    def note(self, sink, text):
        """Take something that was said."""
        if sink not in self.may_show:
            self.texts.setdefault(text[:LONGEST], (sink, self.test))

    def note_error(self, sink, error):
        """Take an exception with all that it carries. What others' code raised is a cause, wherever that was said."""
        for each in chain_of(error):
            place = sink if each is error or isinstance(each, RedisError) else "cause"
            if self._is_in_sample(place, type(each)):
                self.note(place, said_by(each))

    def hits(self):
        """Return where secrets were shown, each masked: ``(sink, test, text)``."""
        by_beginning = {}
        for secret in self.secrets:
            for form in _forms_of(secret):
                by_beginning.setdefault(form[:LEAST], set()).add(form)
        texts = list(self.texts)
        encoded = [_encoded(text) for text in texts]
        everything = b"\0".join(encoded)  # with one wide character all of a text is four times as long
        starts = [0, *itertools.accumulate(len(text) + 1 for text in encoded)]
        found = {}
        for beginning, forms in by_beginning.items():
            first, whole = _encoded(beginning), tuple(map(_encoded, forms))
            position = everything.find(first)
            while position >= 0:
                if everything.startswith(whole, position):
                    found.setdefault(texts[bisect_right(starts, position) - 1], set()).update(forms)
                position = everything.find(first, position + 1)
        return [(*self.texts[text], _masked(text, forms)) for text, forms in found.items()]

    def report(self):
        """Return what is wrong, in words, or nothing."""
        lines = [f"{sink}, in or before {test}: {' '.join(text.split())[:400]}" for sink, test, text in self.hits()]
        lines += [
            f"the secret {secret!r}, in {test}, is too ordinary to be looked for: use one such as 's3cret-of-ada', or "
            "mark the test with ordinary_secrets(reason=…)"
            for secret, test in self.ordinary.items()
        ]
        return lines

    # Where secrets come in, and where things are said.

    def start(self):
        """Watch from now on."""
        _import_all()
        self._learn()
        self._watch()

    def stop(self):
        """Let everything be as it was."""
        while self._undo:
            self._undo.pop()()

    def _learn(self):
        from aioredis_kit import options, url
        from aioredis_kit.kinds import Kind
        from aioredis_kit.testing.configuration import Configuration
        from aioredis_kit.testing.probe import ServerAddress
        from aioredis_kit.wire.encoder import Encoder

        self._after(aioredis_kit.Credentials, "__init__", lambda made, *_, **__: self.learn(made.password))
        self._after(ServerAddress, "__init__", lambda made, *_, **__: self.learn(made.password))
        self._after(Configuration, "__init__", lambda made, *_, **__: self._learn_configuration(made))
        self._after(Encoder, "__init__", lambda made, *_, **__: self._learn_commands(made))
        self._before(
            Kind, "value", lambda kind, _, given: kind.is_secret and isinstance(given, str) and self.learn(given)
        )
        for module in (options, url):
            self._before(module, "parse_url", self._learn_url)

    def _watch(self):
        from aioredis_kit.client.listeners import Listeners

        handler = _Handler(self)
        for name in LOGGERS:
            logger = logging.getLogger(name)
            self._undo += [
                functools.partial(logger.setLevel, logger.level),
                lambda each=logger: each.removeHandler(handler),
            ]
            logger.setLevel(logging.DEBUG)
            logger.addHandler(handler)
        self._finally(RedisError, self._note_collected)
        for kind in _kinds_with_a_repr():
            self._finally(kind, self._note_repr)
        raises = type(pytest.raises(RedisError))  # what tests catch need not be of a kind that is looked at above
        self._before(raises, "__exit__", lambda _, __, error, ___: error and self.note_error("exception", error))
        self._replace(observing, "outcome", self._get_and_note(observing.outcome))
        self._replace(warnings, "warn", self._warn_and_note(warnings.warn))
        self.tell("event", Listeners, "emit")

    def tell(self, sink, owner, name):
        """Note the arguments of every call of a method."""

        def note(_, *args, **kwargs):
            for each in (*args, *kwargs.values()):
                if self._is_in_sample(sink, type(each)):
                    self.note(sink, repr(each))
                for part in getattr(each, "arguments", ()):
                    if isinstance(part, BaseException):
                        self.note_error(sink, part)

        self._before(owner, name, note)

    def _learn_url(self, url):
        found = _USER_INFO.search(url) if isinstance(url, str) else None
        if found:
            self.learn(found[1])
            self.learn(unquote(found[1]))

    def _learn_configuration(self, configuration):
        self.learn(configuration.password)
        for line in configuration.extra_lines:
            for secret in _RULE_OF_A_USER.findall(line) if line.startswith("user ") else ():
                self.learn(secret)

    def _learn_commands(self, encoder):
        encode, harmless = encoder.encode, set()

        def learn_and_encode(args):
            name = args[0] if args else ""
            if name.__class__ is not str or name not in harmless:
                if _text(name).upper().startswith(_NAMES):
                    for secret in secrets_of(args):
                        self.learn(secret)
                elif name.__class__ is str:
                    harmless.add(name)
            return encode(args)

        encoder.encode = learn_and_encode

    def _note_collected(self, error):
        # An error reply that was never raised went no further than a handshake, say. What a server writes into it and
        # its caller gets is the caller's; in all else that carries it, it is looked at as a part of that.
        if isinstance(error, aioredis_kit.KitError) or error.__traceback__ is not None:
            self.note_error("exception", error)

    def _note_repr(self, value):
        if self._is_in_sample("repr", type(value)):
            self.note("repr", repr(value))

    def _get_and_note(self, outcome):
        async def noted(awaitable):
            result = await outcome(awaitable)
            if isinstance(result, BaseException):
                self.note_error("exception", result)
            return result

        return noted

    def _warn_and_note(self, warn):
        def noted(message, category=None, stacklevel=1, source=None, **kwargs):
            self.note("warning", str(message))
            warn(message, category, stacklevel + 1, source, **kwargs)

        return noted

    def _is_in_sample(self, sink, kind):
        number = self._looked_at.get((sink, kind), 0)
        self._looked_at[sink, kind] = number + 1
        return number < (SAMPLE_OF_REPRS if sink == "repr" else SAMPLE)

    # How to get in between.

    def _replace(self, owner, name, new):
        if name in vars(owner):
            self._undo.append(functools.partial(setattr, owner, name, vars(owner)[name]))
        else:
            self._undo.append(functools.partial(delattr, owner, name))
        setattr(owner, name, new)

    def _before(self, owner, name, call):
        function = getattr(owner, name)

        @functools.wraps(function)
        def called(*args, **kwargs):
            call(*args, **kwargs)
            return function(*args, **kwargs)

        self._replace(owner, name, called)

    def _after(self, owner, name, call):
        function = getattr(owner, name)

        @functools.wraps(function)
        def called(*args, **kwargs):
            function(*args, **kwargs)
            call(*args, **kwargs)

        self._replace(owner, name, called)

    def _finally(self, kind, call):
        original = getattr(kind, "__del__", None)

        def collected(self, *args):
            with contextlib.suppress(Exception):  # its making failed halfway: nobody has ever seen it
                call(self)
            if original is not None:
                original(self, *args)

        self._replace(kind, "__del__", collected)


class _Handler(logging.Handler):
    """Takes every log record: its text, its arguments, and the exception with all that it carries."""

    def __init__(self, watch):
        super().__init__(logging.DEBUG)
        self._watch = watch

    def emit(self, record):
        self._watch.note("log", "\n".join([record.getMessage(), repr(record.args), record.stack_info or ""]))
        if record.exc_info and record.exc_info[1] is not None:
            self._watch.note_error("log", record.exc_info[1])


def _import_all():
    for module in pkgutil.walk_packages(aioredis_kit.__path__, "aioredis_kit."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def _kinds_with_a_repr():
    """Return the classes of the package that say more than their name and address."""
    waiting, found = [object], set()
    while waiting:
        for kind in type.__subclasses__(waiting.pop()):
            if kind not in found:
                found.add(kind)
                waiting.append(kind)
    return [
        kind
        for kind in found
        if str(kind.__module__).startswith("aioredis_kit.")
        and not issubclass(kind, BaseException | Enum | type)
        and kind.__repr__ is not object.__repr__
    ]
