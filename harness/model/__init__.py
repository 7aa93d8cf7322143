"""Frozen typed data and the errors; imports nothing of the harness above it."""
