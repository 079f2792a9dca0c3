"""Subscribers: what becomes of a message between the push lane and whoever wants it."""
