"""Frameworks that a client is used in. Each module needs its framework, and nothing else imports it."""
