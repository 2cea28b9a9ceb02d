"""The consumer group: membership as transactions are fenced by it, who else is in it, leaving it."""
