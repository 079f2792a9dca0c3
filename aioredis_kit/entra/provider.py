"""A credential provider that gets its tokens from Microsoft Entra ID, through any credential of azure-identity.

azure-identity is imported when it is used for the first time, and only if a credential has to be made.
"""

from __future__ import annotations

import inspect
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from aioredis_kit.credentials import Credentials
from aioredis_kit.exceptions import ConfigurationError
from aioredis_kit.lanes.providers import TokenCredentials
from aioredis_kit.policy.claims import object_id
from aioredis_kit.transport.tasks import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from tenacity.wait import WaitBaseT

SCOPE: Final = "https://redis.azure.com/.default"
"""Whom tokens are for: Redis on Azure (https://learn.microsoft.com/azure/redis/entra-for-authentication)."""


class EntraIdCredentials(TokenCredentials):
    """Tokens from Microsoft Entra ID, renewed before they end.

    One object may serve several clients; on several event loops as well, unless it was given an asynchronous
    credential, which belongs to one.

    Args:
        credential: Any credential of azure-identity, asynchronous or not, or another object with ``get_token_info`` or
            ``get_token``. A synchronous one is called in a thread. It is not closed. If none is given,
            ``DefaultAzureCredential`` is used.
        scope: Whom the tokens are for.
        username: The user's name at the server. If none is given it is the token's ``oid`` claim, which is what Azure
            expects.
        claims: Additional claims to ask for, as azure-identity takes them.
        tenant_id: The tenant to ask, if not the credential's own.
        ratio: After how much of its life a token is renewed, from 0 to 0.95.
        margin: How long before its end at the latest, in seconds; but never before half of its life.
        jitter: By how much of the time until then it varies, from 0 to 0.5.
        backoff: How long to wait after a renewal that failed: as ``TokenCredentials``.

    Raises:
        ConfigurationError: azure-identity is not installed and has to make the credential; the credential can't give
            tokens; or a value is out of range.
    """

    def __init__(  # noqa: PLR0913  # the schedule's four are passed on
        self,
        credential: Any = None,
        *,
        scope: str = SCOPE,
        username: str | None = None,
        claims: str | None = None,
        tenant_id: str | None = None,
        ratio: float = 0.75,
        margin: float = 300.0,
        jitter: float = 0.1,
        backoff: WaitBaseT | None = None,
    ) -> None:
        super().__init__(self._obtain, ratio=ratio, margin=margin, jitter=jitter, backoff=backoff)
        if credential is None:
            _check_installed()
        elif not callable(getattr(credential, "get_token_info", None) or getattr(credential, "get_token", None)):
            raise ConfigurationError(
                f"credential must be one of azure-identity's, or have get_token(), not {type(credential).__name__!r}"
            )
        self._credential = credential
        self._make: Callable[[], Any] = _default
        self._scope = scope
        self._username = username
        self._asked = {name: value for name, value in (("claims", claims), ("tenant_id", tenant_id)) if value}

    @classmethod
    def managed_identity(
        cls,
        *,
        client_id: str | None = None,
        object_id: str | None = None,
        resource_id: str | None = None,
        **options: Any,
    ) -> Self:
        """Return the provider for the managed identity of the machine or service that this runs on.

        Args:
            client_id: Of a user-assigned identity; without any of these it is the system-assigned one.
            object_id: The same, by another name.
            resource_id: The same, by a third one.
            options: As the class takes them.

        Raises:
            ConfigurationError: More than one was given, or as the class.
        """
        given = {"client_id": client_id, "object_id": object_id, "resource_id": resource_id}
        named = {name: value for name, value in given.items() if value is not None}
        if len(named) > 1:
            raise ConfigurationError(f"{' and '.join(named)} name one identity each: give one of them")
        how = named if client_id is not None or not named else {"identity_config": named}
        return cls._making("ManagedIdentityCredential", (), how, options)

    @classmethod
    def service_principal(cls, tenant_id: str, client_id: str, client_secret: str, **options: Any) -> Self:
        """Return the provider for an application with a secret.

        Args:
            tenant_id: The directory.
            client_id: The application.
            client_secret: Its secret.
            options: As the class takes them.

        Raises:
            ConfigurationError: As the class.
        """
        return cls._making("ClientSecretCredential", (tenant_id, client_id, client_secret), {}, options)

    @classmethod
    def certificate(
        cls, tenant_id: str, client_id: str, certificate_path: str, *, password: str | None = None, **options: Any
    ) -> Self:
        """Return the provider for an application with a certificate.

        Args:
            tenant_id: The directory.
            client_id: The application.
            certificate_path: A file with the certificate and its private key, in PEM or PKCS#12.
            password: Of the private key.
            options: As the class takes them.

        Raises:
            ConfigurationError: As the class.
        """
        how = {} if password is None else {"password": password}
        return cls._making("CertificateCredential", (tenant_id, client_id, certificate_path), how, options)

    @classmethod
    def _making(cls, name: str, args: tuple[Any, ...], how: dict[str, Any], options: dict[str, Any]) -> Self:
        own = cls(**options)
        own._make = lambda: _made(name, *args, **how)
        return own

    async def _obtain(self) -> Credentials:
        """Ask for a token."""
        if self._credential is not None:
            return await self._obtain_from(self._credential)
        # Made anew each time, which is once in a token's life, so that nobody has to close it later. In a thread: to
        # import azure-identity takes a third of a second, and some credentials read files.
        async with await in_thread(self._make) as credential:
            return await self._obtain_from(credential)

    async def _obtain_from(self, credential: Any) -> Credentials:
        if hasattr(credential, "get_token_info"):
            options = {"options": self._asked} if self._asked else {}
            token = await _call(credential.get_token_info, self._scope, options)
        else:
            token = await _call(credential.get_token, self._scope, self._asked)
        return Credentials(
            self._username or object_id(token.token),
            token.token,
            expires_at=float(token.expires_on),
            refresh_on=getattr(token, "refresh_on", None),
        )

    def __repr__(self) -> str:
        what = type(self._credential).__name__ if self._credential is not None else "a credential of its own"
        return f"<{type(self).__name__} with {what} for {self._scope}>"


async def _call(ask: Callable[..., Any], scope: str, options: dict[str, Any]) -> Any:
    if inspect.iscoroutinefunction(ask):
        return await ask(scope, **options)
    answer = await in_thread(lambda: ask(scope, **options))
    return await answer if inspect.isawaitable(answer) else answer


def _default() -> Any:
    return _made("DefaultAzureCredential")


def _made(name: str, *args: Any, **options: Any) -> Any:
    """Make a credential of azure-identity."""
    _check_installed()
    from azure.identity import aio  # noqa: PLC0415  # it takes a tenth of a second, and few need it

    return getattr(aio, name)(*args, **options)


def _check_installed() -> None:
    for package, module in (("azure-identity", "azure.identity"), ("aiohttp", "aiohttp")):
        try:
            is_there = find_spec(module) is not None
        except ModuleNotFoundError:  # there is nothing of azure at all
            is_there = False
        if not is_there:
            raise ConfigurationError(f"{package} is not installed: install aioredis_kit[entra], or give a credential")
