"""Use Redis on Azure without a password: ``uv run examples/azure_entra_id.py NAME.REGION.redis.azure.net``.

Whoever runs it, logged in with ``az login`` or on a machine with a managed identity, has to be a user of the cache (in
the portal: Authentication, Microsoft Entra). TLS and the port follow from the host's name.
"""

from __future__ import annotations

import asyncio
import sys
import time

from aioredis_kit import create_client
from aioredis_kit.entra import EntraIdCredentials


def note(expires_at: float) -> None:
    print(f"the token was renewed; the new one ends in {expires_at - time.time():.0f} s")


async def main(host: str) -> None:
    async with create_client(host=host, credential_provider=EntraIdCredentials()) as client:
        print(client)
        client.on("credentials-renewed", note)
        print("I am", await client.acl_whoami())
        await client.set("greeting", "hello", ex=60)
        print(await client.get("greeting"))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    asyncio.run(main(sys.argv[1]))
