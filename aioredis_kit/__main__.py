"""``python -m aioredis_kit``: the command line."""

from aioredis_kit.cli import main

if __name__ == "__main__":
    main()
