"""A token endpoint like that of a managed identity, on loopback."""

from __future__ import annotations

import asyncio
import base64
import json
import time

from aiohttp import web


def jwt(**claims):
    """Return a token with these claims. Nobody verifies its signature here."""
    parts = ({"alg": "none", "typ": "JWT"}, claims)
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    return ".".join([*encoded, "c2lnbmVk"])


class TokenEndpoint:
    """Issues tokens as App Service does, until a test wants something else.

    Attributes:
        url: Where it is.
        requests: The queries and headers of all requests.
        answers: What it does the next times, instead of issuing a token: ``(status, headers, body)``, or ``None``: it
            never answers.
        life: How long its tokens live, in seconds.
    """

    def __init__(self, issue=None, *, life=3600.0):
        self.url = ""
        self.requests = []
        self.answers = []
        self.life = life
        self._issue = issue
        self._runner = None

    async def __aenter__(self):
        app = web.Application()
        app.router.add_get("/token", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = site._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/token"
        return self

    async def __aexit__(self, *_):
        await self._runner.cleanup()

    def pretend(self, monkeypatch):
        """Let azure-identity believe that this is the machine's token endpoint."""
        monkeypatch.setenv("IDENTITY_ENDPOINT", self.url)
        monkeypatch.setenv("IDENTITY_HEADER", "header-of-the-machine")
        for name in ("AZURE_CLIENT_ID", "IDENTITY_SERVER_THUMBPRINT", "MSI_ENDPOINT"):
            monkeypatch.delenv(name, raising=False)

    async def _answer(self, request):
        self.requests.append((dict(request.query), dict(request.headers)))
        if self.answers:
            answer = self.answers.pop(0)
            if answer is None:
                await asyncio.Event().wait()
            status, headers, body = answer
            return web.Response(status=status, headers=headers, text=body)
        expires_on = time.time() + self.life
        if self._issue is None:
            token = jwt(oid=f"oid-{len(self.requests)}", exp=expires_on)
        else:
            token = await self._issue(len(self.requests))
        body = {"access_token": token, "expires_on": str(int(expires_on)), "resource": "r", "token_type": "Bearer"}
        return web.json_response(body)
