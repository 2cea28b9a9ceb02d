"""More partitions: every user's state moved to its new one."""
