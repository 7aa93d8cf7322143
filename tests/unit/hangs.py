"""How long tests that wait for a fact do so."""

HANGS = 100.0
"""Seconds after which what is waited for does not come any more: it is no measure of how long things take.

A starved machine takes many times as long as a free one, and a test that passes never waits in vain. Where an
agent answers nothing at all any more, many tests wait for so long: not for ten minutes.
"""
