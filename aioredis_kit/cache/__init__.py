"""Client-side caching: what is kept, for how long, and what ends it. Without I/O, loop and clock."""
