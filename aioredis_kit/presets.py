"""What is known about a service by its host's name: Redis on Azure wants TLS, and has ports of its own.

Names and ports: https://learn.microsoft.com/azure/redis/faq and, of the other clouds,
https://learn.microsoft.com/azure/private-link/private-endpoint-dns.
"""

from __future__ import annotations

from typing import Final

_PORTS: Final = {
    "redis.cache.windows.net": 6380,  # Azure Cache for Redis
    "redis.cache.usgovcloudapi.net": 6380,
    "redis.cache.chinacloudapi.cn": 6380,
    "redisenterprise.cache.azure.net": 10000,  # its Enterprise tiers
    "redisenterprise.cache.azure.us": 10000,
    "redisenterprise.cache.azure.cn": 10000,
    "redis.azure.net": 10000,  # Azure Managed Redis
    "redis.azure.us": 10000,
    "redis.azure.cn": 10000,
}


def azure_port(host: str) -> int | None:
    """Return the port on which a host on Azure speaks TLS; ``None`` if it isn't one."""
    name = host.lower().rstrip(".")
    return next((port for suffix, port in _PORTS.items() if name.endswith(f".{suffix}")), None)
