"""A token endpoint like that of a managed identity, on loopback."""

from __future__ import annotations

import asyncio
import base64
import json
import time

from aiohttp import web
from azure.identity.aio import ManagedIdentityCredential

REFUSE = "connections are refused"


def jwt(**claims):
    """Return a token with these claims. Nobody verifies its signature here."""
    parts = ({"alg": "none", "typ": "JWT"}, claims)
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    return ".".join([*encoded, "c2lnbmVk"])


class MachineIdentity:
    """The machine's identity, by azure-identity, made anew for each token.

    Args:
        retries: How often azure-identity tries again by itself.

    Attributes:
        asked_at: When it was asked, on the monotonic clock.
    """

    def __init__(self, retries=0):
        self.asked_at = []
        self._retries = retries

    async def get_token_info(self, *scopes, options=None):
        """What ``EntraIdCredentials`` calls."""
        self.asked_at.append(time.monotonic())
        async with ManagedIdentityCredential(retry_total=self._retries) as credential:
            return await credential.get_token_info(*scopes, options=options)


class TokenEndpoint:
    """Issues tokens as App Service does, until a test wants something else.

    Attributes:
        url: Where it is.
        requests: The queries and headers of all requests.
        answers: What it does the next times, instead of issuing a token: ``(status, headers, body)``, or ``None``: it
            never answers.
        outage: What it does as long as this is set: a function that returns such an answer.
        life: How long its tokens live, in seconds.
        ends_at: When the last one ends, since the epoch.
    """

    def __init__(self, issue=None, *, life=3600.0):
        self.url = ""
        self.requests = []
        self.answers = []
        self.outage = None
        self.life = life
        self.ends_at = 0
        self._issue = issue
        self._over = asyncio.Event()
        self._runner = None
        self._site = None

    async def __aenter__(self):
        app = web.Application()
        app.router.add_get("/token", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0)
        await self._runner.setup()
        self._site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await self._site.start()
        port = self._site._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/token"
        return self

    async def __aexit__(self, *_):
        self._over.set()  # a request that is never answered would be waited for
        await self._runner.cleanup()

    async def fail(self, outage):
        """Fail, until it is restored: refuse connections, or answer with what a function returns."""
        if outage is REFUSE:
            await self._site.stop()
        else:
            self.outage = outage

    async def restore(self):
        """Issue tokens again."""
        if self.outage is None:
            port = int(self.url.removesuffix("/token").rpartition(":")[2])
            self._site = web.TCPSite(self._runner, "127.0.0.1", port)
            await self._site.start()
        self.outage = None

    def pretend(self, monkeypatch):
        """Let azure-identity believe that this is the machine's token endpoint."""
        monkeypatch.setenv("IDENTITY_ENDPOINT", self.url)
        monkeypatch.setenv("IDENTITY_HEADER", "header-of-the-machine")
        for name in ("AZURE_CLIENT_ID", "IDENTITY_SERVER_THUMBPRINT", "MSI_ENDPOINT"):
            monkeypatch.delenv(name, raising=False)

    async def _answer(self, request):
        self.requests.append((dict(request.query), dict(request.headers)))
        if self.answers or self.outage is not None:
            answer = self.answers.pop(0) if self.answers else self.outage()
            if answer is None:
                await self._over.wait()
                answer = 503, {}, ""
            status, headers, body = answer
            return web.Response(status=status, headers=headers, text=body)
        expires_on = time.time() + self.life
        if self._issue is None:
            token = jwt(oid=f"oid-{len(self.requests)}", exp=expires_on)
        else:
            token = await self._issue(len(self.requests))
        self.ends_at = int(expires_on)
        body = {"access_token": token, "expires_on": str(self.ends_at), "resource": "r", "token_type": "Bearer"}
        return web.json_response(body)
