"""Expectations × trace → verdict; pure."""

from harness.judge.compare import judge

__all__ = ["judge"]
