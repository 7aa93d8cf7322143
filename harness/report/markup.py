"""HTML that can't be broken by what it shows: traces hold text that a guest has chosen.

`el` makes an element, in as few bytes as HTML allows: no quotes and end tags where none are needed, as a page
has thousands. A `str` in it is always text and is escaped; only what `el` made is markup, and no
other module makes any (`tests/unit/test_report_markup.py` holds that). What could run code, style or fetch
something is no element or attribute here, so a mistake of ours is an exception and not a hole.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
import unicodedata
from collections.abc import Iterable
from typing import TypeAlias, final


@final
class Markup:
    """A piece of HTML."""

    __slots__ = ("_html",)

    def __init__(self, text: str) -> None:
        self._html = text

    def __str__(self) -> str:
        return self._html


Child: TypeAlias = "Markup | str | int | Iterable[Child] | None"
"""What an element may hold: markup, text, nothing, or several of these."""

_VOID = frozenset({"br", "hr", "wbr"})
_DRAWN = frozenset({"circle", "line", "path", "rect", "use"})
_TEXT = {"a", "b", "code", "em", "kbd", "small", "span", "strong", "time"}
_BLOCKS = {"article", "details", "div", "footer", "header", "main", "nav", "p", "pre", "section", "summary"}
_HEADINGS = {"h1", "h2", "h3", "h4"}
_LISTS = {"dd", "dl", "dt", "li", "ol", "ul"}
_TABLES = {"caption", "table", "tbody", "td", "tfoot", "th", "thead", "tr"}
_GRAPHICS = {"defs", "g", "pattern", "svg", "text"}
_HOLDING = _TEXT | _BLOCKS | _HEADINGS | _LISTS | _TABLES | _GRAPHICS
_LINED = (_BLOCKS | _HEADINGS | _LISTS | {"caption", "tr", "svg"}) - {"pre"}
"""After these a new line begins, so that the file can be read and compared."""
_UNENDED = frozenset({"dd", "dt", "li", "p", "tbody", "td", "tfoot", "th", "thead", "tr"})
"""HTML ends these by itself, where the next one begins or the parent ends, and a `p` before any block;
nothing else may follow them."""

_PLAIN = re.compile(r"[\w.,:;%#+-][\w.,:;%#/+-]*", re.ASCII)
"""Values that need no quotes; one that ends with a `/` is told from ``/>`` by the space before that."""

_ATTRIBUTE = re.compile(r"[a-z][a-zA-Z-]*[a-z0-9]|[xyrd]")
_FETCHING = re.compile(r"on.*|style|src.*|.*src|action|formaction|data|background|poster|ping|http-?equiv")
_LEADS_INSIDE = re.compile(r"#.*|(?![\w.+-]*:)(?!/)[^\\\s]+", re.ASCII)
"""A fragment, or a relative path: no scheme, no host, not from the root."""


def el(tag: str, *children: Child, **attributes: str | float | bool | None) -> Markup:
    """An element. In attributes' names a `_` is a `-`, and one at the end is dropped (`class_`).

    A value of None or False leaves its attribute out, True gives it without a value.

    :raise ValueError: for a tag or an attribute that has no place in a report, or an `href` that leads out.
    """
    given = "".join(_attribute(name, value) for name, value in attributes.items())
    if tag in _VOID or (tag in _DRAWN and not children):
        return Markup(f"<{tag}{given}{' /' if tag in _DRAWN else ''}>")
    if tag not in _HOLDING and tag not in _DRAWN:
        raise ValueError(f"<{tag}> has no place in a report")
    end = ("" if tag in _UNENDED else f"</{tag}>") + ("\n" if tag in _LINED else "")
    return Markup(f"<{tag}{given}>{_inside(children)}{end}")


def join(children: Iterable[Child], between: Child = "") -> Markup:
    """All of `children`, with `between` between them."""
    parts = [_inside(child) for child in children if child is not None]
    return Markup(_inside(between).join(parts))


def document(title: str, style: str, script: str, body: Markup, language: str = "en") -> str:
    """A whole page. Its policy lets nothing but this one `style` and this one `script` have any effect.

    :raise ValueError: when `style` or `script` would end their own element.
    """
    for name, text in (("style", style), ("script", script)):
        if re.search(rf"</{name}|<!--", text, re.IGNORECASE):
            raise ValueError(f"the {name} would end its element")
    policy = f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; base-uri 'none'"
    head = [
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        f"<title>{_escaped(title)}</title>",
        f"<style>{style}</style>",
    ]
    lines = ["<!DOCTYPE html>", f'<html lang="{_escaped(language)}">', "<head>", *head, "</head>"]
    return "\n".join([*lines, "<body>", str(body), f"<script>{script}</script>", "</body>", "</html>", ""])


def shown(text: str) -> str:
    """`text` with what is invisible, or turns the reading direction, as `\\x1b` or `\\u202e`."""
    return text if text.isascii() and text.isprintable() else "".join(map(_visible, text))


def _visible(character: str) -> str:
    if character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cf", "Co", "Cs", "Zl", "Zp"):
        return character
    number = ord(character)
    return (
        f"\\x{number:02x}"
        if number < 0x100
        else f"\\u{number:04x}"
        if number < 1 << 16
        else f"\\U{number:08x}"
    )


def _escaped(text: str) -> str:
    return html.escape(shown(text), quote=True)


def _inside(child: Child) -> str:
    if isinstance(child, Markup):
        return str(child)
    if isinstance(child, str):
        return _escaped(child)
    if child is None:
        return ""
    if isinstance(child, int):
        return str(child)
    return "".join(map(_inside, child))


def _attribute(name: str, value: str | float | bool | None) -> str:
    name = name.rstrip("_").replace("_", "-")
    if not _ATTRIBUTE.fullmatch(name) or _FETCHING.fullmatch(name.lower()):
        raise ValueError(f"the attribute {name} has no place in a report")
    if value is None or value is False:
        return ""
    if value is True:
        return f" {name}"
    if name == "href" and not _LEADS_INSIDE.fullmatch(str(value)):
        raise ValueError(f"href {value!r} leads out of the results folder")
    text = str(value)
    return f" {name}={text}" if _PLAIN.fullmatch(text) else f' {name}="{_escaped(text)}"'


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
