"""``aioredis-kit bench``: how much a client gets out of a server from here, beside redis-py's own."""
