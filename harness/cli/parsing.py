"""What all subcommands' parsers share: examples kept as written, mistakes as errors with the nearest word."""

from __future__ import annotations

import argparse
import difflib
import re
import textwrap
from collections.abc import Generator, Iterable, Sequence
from typing import TYPE_CHECKING, NoReturn

from harness.model.errors import UsageError

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

_CHOICE = re.compile(r"invalid choice: '(?P<word>[^']*)' \(choose from (?P<choices>.*)\)")


_NEAR = 0.65
"""How like a word must be to be taken for what was meant: more than --bogus is like --guest."""


class _Help(argparse.RawDescriptionHelpFormatter):
    """As argparse's, but names with hyphens stay whole, and a list of commands is just that."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)

    def _format_action(self, action: argparse.Action) -> str:
        text = super()._format_action(action)
        if isinstance(action, argparse._SubParsersAction):
            return text.partition("\n")[2]  # the first line is the metavar, which usage has
        return text

    def _iter_indented_subactions(self, action: argparse.Action) -> Generator[argparse.Action]:
        if isinstance(action, argparse._SubParsersAction):
            yield from action._get_subactions()
        else:
            yield from super()._iter_indented_subactions(action)


class Parser(argparse.ArgumentParser):
    """As argparse's, but its errors are `UsageError`, and options are never abbreviated."""

    def __init__(self, **rest: object) -> None:
        settings = {"formatter_class": _Help, "allow_abbrev": False, **rest}
        super().__init__(**settings)  # type: ignore[arg-type]

    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        """The arguments; options and paths may be mixed.

        :raise UsageError: names the nearest right word.
        """
        nested = any(isinstance(action, argparse._SubParsersAction) for action in self._actions)
        if nested:
            args, unknown = self.parse_known_args(argv)
        else:
            args, unknown = self.parse_known_intermixed_args(argv)
        if unknown:
            chosen = self._chosen(argv)
            known = chosen._option_string_actions
            word = unknown[0].split("=")[0]
            what = f"unknown option {word}" if word.startswith("-") else f"unexpected argument {word!r}"
            raise UsageError(f"{what}{guess(word, known)}", hint=f"{chosen.prog} --help")
        return args

    def error(self, message: str) -> NoReturn:
        """Called by argparse for a mistake.

        :raise UsageError: always.
        """
        found = _CHOICE.search(message)
        if found:
            choices = re.findall(r"[\w-]+", found["choices"])
            message = f"{found['word']!r} is none of: {', '.join(choices)}{guess(found['word'], choices)}"
        raise UsageError(message, hint=f"{self.prog} --help")

    def _chosen(self, argv: Sequence[str]) -> argparse.ArgumentParser:
        """The parser of the subcommand that `argv` names, else this one."""
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                named = (action.choices[word] for word in argv if word in action.choices)
                return next(named, self)
        return self


def guess(word: str, words: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the word nearest to a wrong one, or nothing; dashes before it don't count.

    The one that it is the beginning of is nearer than any other.
    """
    bare, said = {known.lstrip("-"): known for known in words}, word.lstrip("-")
    begun = [known for known in bare if known.startswith(said)] if len(said) > 1 else []
    near = begun if len(begun) == 1 else difflib.get_close_matches(said, bare, n=1, cutoff=_NEAR)
    return f"; did you mean {bare[near[0]]!r}?" if near else ""


def split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """What stands before the first `--`, and what behind it."""
    words = list(argv)
    if "--" not in words:
        return words, []
    at = words.index("--")
    return words[:at], words[at + 1 :]


def positive(word: str) -> int:
    """A number from 1, for `type` of an argument."""
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"{word!r} is not a number from 1")
    return int(word)


def workers(word: str) -> str:
    """What xdist's -n takes, but 0, which is none: a number from 1, or `auto`; for `type` of an argument."""
    if word != "auto" and not (word.isdecimal() and int(word) > 0):
        raise argparse.ArgumentTypeError(f"{word!r} is neither a number from 1 nor 'auto'")
    return word


def filled(word: str) -> str:
    """A word that is not empty, as an unset variable's is in a script; for `type` of an argument."""
    if not word:
        raise argparse.ArgumentTypeError("it is empty; leave the option out for the default")
    return word
