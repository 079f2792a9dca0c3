"""Decisions without I/O: they are fed with facts, time and randomness, and say what to do."""
