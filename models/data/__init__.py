"""Logs as training reads them: histories of users, sequences, prepared tables, co-occurrence. No networks."""
