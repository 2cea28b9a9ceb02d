"""Fetched bytes as records: batches of all codecs and formats, and their way to Faust."""
