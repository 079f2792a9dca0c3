"""The façade: redis-py's client class on our connections."""
