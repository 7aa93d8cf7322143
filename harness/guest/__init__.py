"""Putting the agent into a guest, and talking to it."""
