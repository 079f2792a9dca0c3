"""Microsoft Entra ID: tokens as passwords, for Azure Managed Redis and Azure Cache for Redis."""

from aioredis_kit.entra.provider import EntraIdCredentials

__all__ = ["EntraIdCredentials"]
