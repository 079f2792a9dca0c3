"""Which address a command goes to. Nothing above knows how many there are."""
