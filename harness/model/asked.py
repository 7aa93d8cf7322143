"""What words of the command line mean, where that is known without pytest."""

from __future__ import annotations

from collections.abc import Iterable

from harness.model.document import nearest
from harness.model.errors import UsageError
from harness.model.link import Link


def links(options: Iterable[str]) -> frozenset[Link] | None:
    """The links that `--link` asks for, each with commas or given more than once; None for all.

    :raise UsageError: for an unknown link; names the nearest. For an empty one as well: what a script's unset
        variable left must not become another choice.
    """
    given = [(option, word.strip()) for option in options for word in option.split(",")]
    words = [word for _, word in given]
    for option, word in given:
        if not word:
            what = "names no link" if not option.strip(" ,") else "a link's name is missing beside the comma"
            raise UsageError(f"--link {option!r}: {what}", hint=f"one of: {', '.join(Link)}")
        if word not in list(Link):
            near = nearest(word, map(str, Link))
            guess = f"; did you mean {near!r}?" if near else ""
            raise UsageError(f"--link {word}: unknown{guess}", hint=f"one of: {', '.join(Link)}")
    return frozenset(Link(word) for word in words) or None
