"""One socket: dialled once, closed once. The shell around ``wire``."""
