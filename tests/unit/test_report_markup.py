"""Markup: what is text stays text, and what could fetch or run something is refused."""

from __future__ import annotations

import ast
import html
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.report import markup
from harness.report.markup import document, el, join, shown

REPORT = Path(markup.__file__).parent


class Read(HTMLParser):
    """What a browser makes of it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    def handle_decl(self, decl: str) -> None:
        raise AssertionError(f"a declaration: {decl}")

    def unknown_decl(self, data: str) -> None:
        raise AssertionError(f"a declaration: {data}")

    def handle_pi(self, data: str) -> None:
        raise AssertionError(f"an instruction: {data}")


@given(st.text())
def test_text_is_text_in_an_element_and_in_an_attribute(text: str) -> None:
    read = Read(str(el("p", text, title=text)))
    assert read.tags == ["p"]
    assert read.attributes == [("title", shown(text))]
    assert read.text.removesuffix("\n") == shown(text)


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "</p><img src=x onerror=alert(1)>",
        '" onload="alert(1)',
        "<!--",
        "&lt;b&gt;",
        "]]>",
    ],
)
def test_hostile_text_comes_out_as_it_is(text: str) -> None:
    read = Read(str(el("td", el("code", [text, text]), data_t=text)))
    assert read.tags == ["td", "code"]
    assert read.attributes == [("data-t", text)]
    assert read.text == text + text


def test_what_can_not_be_seen_is_spelled_out() -> None:
    assert shown("a\x00\x1b[31mb\u202ec\u200d\ufeff\ud800") == "a\\x00\\x1b[31mb\\u202ec\\u200d\\ufeff\\ud800"
    assert shown("\U000e0041") == "\\U000e0041"
    assert shown("two\n\tlines, ä漢🙂") == "two\n\tlines, ä漢🙂"


def test_attributes_are_named_as_in_html() -> None:
    made = str(el("td", 7, class_="n", aria_label="x", data_t="y", hidden=True, title=None, open=False))
    assert made == "<td class=n aria-label=x data-t=y hidden>7"
    assert str(join([el("b", 1), None, "<"], ", ")) == "<b>1</b>, &lt;"


@pytest.mark.parametrize("text", ["", "a b", "a=b", "a'b", "a`b", "a>b", "/a", "a&lt;b", "ä"])
def test_what_needs_quotes_has_them(text: str) -> None:
    assert f'title="{html.escape(text)}"' in str(el("p", title=text))


def test_a_slash_at_the_end_of_a_value_ends_no_element() -> None:
    read = Read(str(el("svg", el("use", href="#a", x="1/"), el("a", "x", href="./b/"))))
    assert read.tags == ["svg", "use", "a"]
    assert read.attributes == [("href", "#a"), ("x", "1/"), ("href", "./b/")]


def test_cells_and_entries_end_by_themselves() -> None:
    table = el("table", el("tbody", el("tr", el("th", "a"), el("td", el("b", 1)))))
    assert "".join(str(table).split("\n")) == "<table><tbody><tr><th>a<td><b>1</b></table>"


@pytest.mark.parametrize(
    "tag", ["script", "style", "img", "iframe", "object", "link", "base", "meta", "form", "x y"]
)
def test_what_could_run_or_fetch_is_no_element(tag: str) -> None:
    with pytest.raises(ValueError, match="no place in a report"):
        el(tag, "x")


@pytest.mark.parametrize("name", ["onclick", "style", "src", "srcset", "action", "data", "ping", "a b", 'x"'])
def test_what_could_run_or_fetch_is_no_attribute(name: str) -> None:
    with pytest.raises(ValueError, match="no place in a report"):
        el("a", **{name: "x"})


@pytest.mark.parametrize(
    "address",
    [
        "https://x",
        "//x/y",
        "/etc/passwd",
        "javascript:alert(1)",
        "JavaScript:x",
        "data:x",
        "\\\\x\\y",
        " #x",
        "a b",
        "",
    ],
)
def test_no_link_leads_out(address: str) -> None:
    with pytest.raises(ValueError, match="leads out"):
        el("a", "x", href=address)


@pytest.mark.parametrize("address", ["#x", "./a/b.log", "a%20b/c", "./a:b"])
def test_links_lead_inside(address: str) -> None:
    assert Read(str(el("a", "x", href=address))).attributes == [("href", address)]


def test_a_page_allows_its_own_style_and_script_only() -> None:
    page = document("</title><b>", "p { color: red }", "let x = 1;", el("p", "x"))
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert policy
    assert re.fullmatch(
        r"default-src 'none'; style-src 'sha256-[\w+/]{43}='; script-src 'sha256-[\w+/]{43}='; "
        r"base-uri 'none'",
        policy[1],
    )
    assert "&lt;/title&gt;&lt;b&gt;" in page
    for style, script in (("</STYLE>", ""), ("", "'</script>'"), ("", "<!--")):
        with pytest.raises(ValueError, match="would end its element"):
            document("x", style, script, el("p"))


def test_nobody_else_makes_markup() -> None:
    for path in REPORT.glob("*.py"):
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        makers = [call for call in calls if ast.unparse(call.func).split(".")[-1] == "Markup"]
        assert bool(makers) == (path.name == "markup.py"), path
