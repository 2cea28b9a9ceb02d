"""The transaction of a round, its producer, and the changelog that a partition is recovered from."""
