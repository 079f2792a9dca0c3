"""Configuration from text: the environment, connection strings, URLs, mappings and TOML.

``OPTIONS.md``, beside this file, maps the options of StackExchange.Redis, node-redis and Redisson to ours.
"""

from aioredis_kit.config.configuration import ClientConfiguration, create_client_from_env
from aioredis_kit.config.explanation import Explanation, Setting
from aioredis_kit.config.registry import ClientRegistry

__all__ = ["ClientConfiguration", "ClientRegistry", "Explanation", "Setting", "create_client_from_env"]
