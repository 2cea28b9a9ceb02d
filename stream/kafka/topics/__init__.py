"""Topics: planned, applied, checked, and watched while a worker runs."""
