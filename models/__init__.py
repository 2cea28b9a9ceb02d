"""Training and evaluation, offline."""

import os

# OpenMP's threads spin while they wait for one another, and beside another load they do little else. The library reads
# this when torch loads it, which no module here does before this line.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
