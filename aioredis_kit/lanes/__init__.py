"""How commands use connections to one address, over any number of reconnections."""
