"""A whole Forecart on one machine, to look at."""
