"""The scorer: a round of events to scores and sessions, live or from a file."""
