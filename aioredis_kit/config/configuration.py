"""``ClientConfiguration``: options from text, and where each came from; and ``create_client_from_env``."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final

from aioredis_kit.client.create import client_of
from aioredis_kit.config.environment import read_environment, read_string
from aioredis_kit.config.explanation import Explanation, Setting, shown
from aioredis_kit.config.mapping import entra_credentials, read_mapping, read_toml
from aioredis_kit.exceptions import ConfigurationError
from aioredis_kit.options import Options, Resolution, Statement, TLSOptions, resolve_statements, state
from aioredis_kit.presets import azure_port
from aioredis_kit.spellings import Alias, Ignored, is_unset

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Self

    from aioredis_kit.client.client import RedisClient

__all__ = ["ClientConfiguration", "create_client_from_env"]

logger = logging.getLogger(__name__)

_ARGUMENT: Final = "an argument"
_ENTRA: Final = "the host's name: it is on Azure, and there is no password"
_TLS_PARTS: Final = frozenset(f"tls.{each.name}" for each in fields(TLSOptions))


@dataclass(frozen=True, slots=True)
class ClientConfiguration:
    """The options of a client that were given as text, and where each came from.

    Made by ``from_env``, ``from_string``, ``from_mapping`` or ``from_toml``. Each takes overrides, which are options as
    ``create_client`` takes them, under any of their names: they replace what the text says.

    A host on Azure gets TLS and its port unless the text says otherwise, and, if there is no password, credentials of
    Microsoft Entra ID.

    Attributes:
        options: The options.
        notes: What was found and has no effect, or was not read, and why.
    """

    options: Options
    notes: tuple[str, ...] = ()
    _sources: Mapping[str, str] = field(default_factory=dict, repr=False)
    _ignored: tuple[Statement, ...] = field(default=(), repr=False)

    @classmethod
    def from_env(
        cls, name: str | None = None, /, *, environ: Mapping[str, str] | None = None, **overrides: Any
    ) -> Self:
        """Read the environment: see ``create_client_from_env``.

        Raises:
            ConfigurationError: As ``create_client_from_env``.
        """
        reading = read_environment(name, os.environ if environ is None else environ)
        return cls._of(reading.said, overrides, reading.notes)

    @classmethod
    def from_string(cls, text: str, /, **overrides: Any) -> Self:
        """Read a URL or a connection string of StackExchange.Redis.

        Raises:
            ConfigurationError: It is neither, or an option is unknown, has a wrong value, or contradicts another.
        """
        if not isinstance(text, str):
            raise ConfigurationError(f"a connection string must be text, not {type(text).__name__}")
        return cls._of(read_string(text), overrides)

    @classmethod
    def from_mapping(cls, given: Mapping[str, object], /, *, source: str = "the mapping", **overrides: Any) -> Self:
        """Read a mapping of options, such as a part of a file in JSON or YAML.

        Args:
            given: Values by the options' names, under any of them; ``url`` is the URL of the server. ``tls`` may be a
                mapping of ``TLSOptions``, ``client_side_cache`` one of ``CacheOptions``, and ``credential_provider``
                ``"entra"`` or a mapping of the arguments of ``EntraIdCredentials``. Text stands for what it stands for
                in the query of a URL.
            source: Where it comes from, for errors and explanations.
            overrides: Options that replace what it says.

        Raises:
            ConfigurationError: An option is unknown, has a wrong value, or contradicts another.
        """
        return cls._of(read_mapping(given, source), overrides)

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str], /, *, table: str | None = None, **overrides: Any) -> Self:
        """Read a TOML file, as ``from_mapping`` does. The file is read here and now.

        Args:
            path: The file.
            table: The table with the options, such as ``"tool.cache"``; ``None``: the whole file.
            overrides: Options that replace what it says.

        Raises:
            ConfigurationError: The file can't be read, is no TOML, or has no such table; or as ``from_mapping``.
        """
        return cls._of(read_mapping(*read_toml(path, table)), overrides)

    @classmethod
    def _of(cls, said: Iterable[Statement], overrides: Mapping[str, Any], notes: tuple[str, ...] = ()) -> Self:
        more = [_stated(name, value) for name, value in overrides.items() if not is_unset(value)]
        kept = [*_not_overridden(said, more), *more]
        found = resolve_statements(kept)
        if _wants_entra(found.options):
            kept = [each for each in kept if _option(each) not in {"username", "password", "credential_provider"}]
            found = resolve_statements([*kept, _entra(found)])
        return cls(found.options, notes, found.sources, found.ignored)

    def create_client(self) -> RedisClient:
        """Return a client with these options. Nothing is connected yet.

        What was said and has no effect is logged as a warning.

        Raises:
            ConfigurationError: The TLS options name a file that can't be read, or the like.
        """
        for each in self._ignored:
            logger.warning("%s", _without_effect(each))
        return client_of(self.options)

    def explain(self) -> Explanation:
        """Return which setting came from where. No secret is in it."""
        settings = (
            Setting(
                each.name,
                shown(getattr(self.options, each.name), is_secret=each.metadata["kind"].is_secret),
                self._source(each.name),
            )
            for each in fields(self.options)
            if "kind" in each.metadata
        )
        return Explanation(tuple(settings), (*map(_without_effect, self._ignored), *self.notes))

    def _source(self, name: str) -> str:
        source = self._sources.get(name)
        return "" if source is None else source or _ARGUMENT


def create_client_from_env(
    name: str | None = None, /, *, environ: Mapping[str, str] | None = None, **options: Any
) -> RedisClient:
    """Return a client for the server that the environment names. Nothing is connected yet.

    The first of these that is set says where the server is; for a client with the name ``cache``:

    1. ``ConnectionStrings__cache``: a connection string of StackExchange.Redis, or a URL.
    2. ``CACHE_URI``: a URL.
    3. ``CACHE_HOST``, with ``CACHE_PORT``, ``CACHE_USERNAME`` or ``CACHE_USER``, ``CACHE_PASSWORD``, ``CACHE_DB`` or
       ``CACHE_DATABASE``, ``CACHE_SSL`` or ``CACHE_TLS``, and redis-py's ``SSL_CA_CERTS``, ``SSL_CERTFILE``,
       ``SSL_KEYFILE``, ``SSL_CERT_REQS``, ``SSL_CHECK_HOSTNAME``, ``SOCKET_TIMEOUT`` and ``MAX_CONNECTIONS``.
    4. ``REDIS_URL``; or ``REDIS_HOST`` with the same others.
    5. ``AZURE_CACHE_FOR_REDIS_HOST_NAME``, with ``AZURE_CACHE_FOR_REDIS_ACCESS_KEY`` or ``REDIS_SERVICE_PRINCIPAL_ID``.

    Args:
        name: The client's name; ``None`` begins with ``REDIS_URL``.
        environ: The environment, if it isn't the process's.
        options: Options as ``create_client`` takes them: they replace what the environment says.

    Raises:
        ConfigurationError: No variable names a server, or the first that does is empty or says something wrong; an
            option is unknown, has a wrong value, or contradicts another; Microsoft Entra ID is needed, and
            azure-identity is not installed.
    """
    return ClientConfiguration.from_env(name, environ=environ, **options).create_client()


def _stated(name: str, value: object) -> Statement:
    if name in {"connection_pool", "url"}:
        raise ConfigurationError(f"{name} can't replace what text says: give it to create_client")
    return state(name, value)


def _option(said: Statement) -> str:
    return said.meaning.option if isinstance(said.meaning, Alias) else ""


def _not_overridden(said: Iterable[Statement], more: Iterable[Statement]) -> list[Statement]:
    """Return what still holds of what the text says."""
    gone = {option for each in more for option in _replaced_by(each)} - {""}
    # Whoever overrides with a plain True says that there is TLS, not how.
    is_tls_on = any(_option(each) == "tls" and each.value is True for each in more)
    is_tls_off = any(_option(each) == "tls" and each.value is False for each in more)
    return [
        each
        for each in said
        if (_option(each) not in gone or (is_tls_on and _option(each) == "tls" and each.value is not False))
        and not (is_tls_off and each.is_implied)
    ]


def _replaced_by(override: Statement) -> set[str]:
    """Return the options of which an override leaves nothing.

    A Unix socket takes the place of host, port and TLS, and they of it; the same holds for a credential provider and
    static credentials.
    """
    option = _option(override)
    if option in {"host", "port"}:
        return {option, "unix_socket_path"}
    if option in {"username", "password"}:
        return {option, "credential_provider"}
    if option == "unix_socket_path" and override.value is not None:
        return {option, "host", "port", "tls", *_TLS_PARTS}
    if option == "credential_provider" and override.value is not None:
        return {option, "username", "password"}
    if option == "tls" and override.value is not True:
        return {option, *_TLS_PARTS}
    return {option}


def _wants_entra(options: Options) -> bool:
    is_on_azure = options.unix_socket_path is None and azure_port(options.host) is not None and bool(options.tls)
    return is_on_azure and not options.password and options.credential_provider is None


def _entra(found: Resolution) -> Statement:
    """Return the statement that tokens are the credentials."""
    username = found.options.username
    try:
        provider = entra_credentials({"username": username} if username else {})
    except ConfigurationError as error:
        problem = str(error)
    else:
        return state("credential_provider", provider, _ENTRA)
    raise ConfigurationError(
        f"host in {found.sources['host'] or _ARGUMENT} is on Azure and there is no password, which asks for Microsoft "
        f"Entra ID, but {problem}, or a password"
    )


def _without_effect(said: Statement) -> str:
    reason = said.meaning.reason if isinstance(said.meaning, Ignored) else ""
    return f"{said} has no effect. {reason}"
