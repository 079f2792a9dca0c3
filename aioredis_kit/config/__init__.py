"""Configuration from text: the environment, connection strings, URLs, mappings and TOML.

``OPTIONS.md``, beside this file, maps the options of StackExchange.Redis, node-redis and Redisson to ours.
"""

from aioredis_kit.config.configuration import ClientConfiguration, create_client_from_env
from aioredis_kit.config.explanation import Explanation, Setting

__all__ = ["ClientConfiguration", "Explanation", "Setting", "create_client_from_env"]
