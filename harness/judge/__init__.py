"""Expectations against a trace: pure."""
