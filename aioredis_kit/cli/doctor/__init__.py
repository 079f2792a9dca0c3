"""``aioredis-kit doctor``: is it Redis, the network, or us?

``Examination`` looks, in the order of ``findings.Step``, and has ``facts`` then; ``diagnosis`` makes findings of them
with the rules in ``connecting``, ``serving`` and ``using``, which touch nothing; ``report`` makes text and JSON of it.
"""
