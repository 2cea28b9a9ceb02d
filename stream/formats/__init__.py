"""Logs and events of other shapes, read into events. Pure: bytes and rows in, events out."""
