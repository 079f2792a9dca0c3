"""The Redis protocol without I/O: fed with bytes, asked for bytes.

Nothing in here knows of the event loop, sockets or clocks.
"""
