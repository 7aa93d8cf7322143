"""The command line of a multiplexing proxy, as a user writes it: words with places for paths in them."""

from __future__ import annotations

import difflib
import re
import shlex

from harness.model.errors import UsageError

PLACES = ("{listen}", "{mux}")
"""What a command line must have: the path that the proxy listens on, and that of the serial port."""

_ALLOWED = (*PLACES, "{id}")
_PLACE = re.compile(r"\{\w*\}")


def command(text: str) -> tuple[str, ...]:
    """The words of a command line: split as a shell does, nothing else of a shell.

    :raise UsageError: without the places for both paths, or with a place that means nothing.
    """
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise UsageError(f"--proxy {text}: {error}") from error
    named = _PLACE.findall(text)
    for place in named:
        if place not in _ALLOWED:
            near = difflib.get_close_matches(place, _ALLOWED, n=1)
            guess = f"; did you mean {near[0]}?" if near else ""
            raise UsageError(f"--proxy: unknown {place}{guess}", hint=f"allowed: {', '.join(_ALLOWED)}")
    missing = [place for place in PLACES if place not in named]
    if missing:
        raise UsageError(
            f"--proxy: no {' and no '.join(missing)} in: {text or 'nothing'}",
            hint="./kata-proxy -listen-socket unix://{listen} -mux-socket {mux} -sandbox {id}",
        )
    return words


def filled(words: tuple[str, ...], *, listen: str, mux: str, pod: str) -> list[str]:
    """The words with the paths and the pod's name in their places."""
    values = {"{listen}": listen, "{mux}": mux, "{id}": pod}
    return [_PLACE.sub(lambda place: values.get(place[0], place[0]), word) for word in words]
