"""How many workers and how much memory a load needs. Pure."""
