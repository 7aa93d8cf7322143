"""What README and docs/ say of commands, files, keys and verdicts is so."""

from __future__ import annotations

import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.cli.main import COMMANDS, main
from harness.cli.parsing import Parser, split
from harness.judge import judge
from harness.model import written
from harness.model.claims import Claim
from harness.model.errors import UsageError
from harness.model.fault import FaultKind
from harness.model.shape import Record, Written, entries
from harness.report.console import Line, table
from tests.unit.traces import loaded, right

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
FORMAT = (ROOT / "docs/scenarios.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "scenarios/README.md", *sorted((ROOT / "docs").glob("*.md"))]
SAMPLE = "multiple-clients-8"
"""The scenario that README shows."""

FENCED = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)")
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
OPEN = ("…", "COMMAND", "[")
"""What stands in a command that is described, not to be typed."""


def prose(text: str) -> str:
    """A page without its blocks of code."""
    return FENCED.sub("", text)


def blocks(text: str, language: str) -> list[str]:
    return [block for name, block in FENCED.findall(text) if name == language]


def commands(text: str) -> Iterator[list[str]]:
    """Each command to type, as words: of blocks and spans of code; several on a line are several."""
    lines = [
        line.strip().removeprefix("$ ") for _, block in FENCED.findall(text) for line in block.splitlines()
    ]
    for line in [*lines, *(" ".join(span.split()) for span in SPAN.findall(prose(text)))]:
        if not re.match(r"(\w+=\S+ )*(\S*/)?(vsock-harness|make) (?!\w+:)", line):
            continue
        for part in re.split(r" && |; | \| ", line.split(" #")[0]):
            words = [word for word in shlex.split(part) if not re.match(r"[A-Z_]+=", word) or "make" in part]
            if words and not any(mark in part for mark in OPEN):
                yield words


WIDEST = 120
"""Characters of a line of prose; one that is a single word, as an address, may have more."""


def too_wide(text: str) -> list[str]:
    """Lines of a page's prose that are too long; a table's rows and code are as long as they must be."""
    lines = (line for line in prose(text).splitlines() if not line.lstrip().startswith("|"))
    return [line for line in lines if len(line) > WIDEST and len(line.split()) > 1]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_prose_is_wrapped(page: Path) -> None:
    assert too_wide(page.read_text()) == []


def test_what_is_too_wide_is_found() -> None:
    long = "word " * 24 + "x"
    said = f"{long}\n\n* {long}\n\n| {long} |\n\n```sh\n{long}\n```\n{'x' * 200}\n{long[:-1]}"
    assert too_wide(said) == [long, f"* {long}"]


def mistake(words: list[str]) -> str:
    """What is wrong with a command: no such command, option, target or scenario."""
    program = words[0].split("/")[-1]
    if program == "make":
        targets = re.findall(r"^([a-z0-9]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        variables = re.findall(r"^([A-Z]+) =", (ROOT / "Makefile").read_text(), re.MULTILINE)
        known = {*targets, *(f"{name}=" for name in variables), "-C", "vsock-harness"}
        said = [re.sub(r"=.*", "=", word) for word in words[1:]]
        return ", ".join(word for word in said if word not in known)
    if program != "vsock-harness" or words[1:] == ["--version"]:
        return ""
    name = words[1]
    if name not in COMMANDS:
        return f"no command {name}"
    top = Parser(prog="vsock-harness")
    choices = top.add_subparsers()
    importlib.import_module(f"harness.cli.{name}").add_parser(choices)
    try:
        choices.choices[name].parse([word for word in split(words[2:])[0] if word != "--help"])
    except UsageError as error:
        return str(error)
    shipped = [word.split("::")[0] for word in words if re.match(r"(scenarios|tests)/", word)]
    return ", ".join(word for word in shipped if "NAME" not in word and not (ROOT / word).exists())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_are_there(page: Path) -> None:
    found = [(words, why) for words in commands(page.read_text()) if (why := mistake(words))]
    assert not found, "\n".join(f"{shlex.join(words)}: {why}" for words, why in found)


@pytest.mark.parametrize(
    "text",
    [
        "```sh\nvsock-harness run --lnik vsock\n```",
        "```\n$ vsock-harness rnu\n```",
        "see `make cataloge`",
        "see `vsock-harness run\nscenarios/multiple-clients-9.yaml`",
        "```sh\nmake setup && .venv/bin/vsock-harness doctor --katta  # reads it\n```",
    ],
)
def test_a_command_that_is_not_there_is_found(text: str) -> None:
    assert [words for words in commands(text) if mistake(words)]


def anchors(page: Path) -> set[str]:
    """Where links into a page may lead, by GitHub's rules."""
    titles = re.findall(r"^#+ (.*)$", FENCED.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(prose(page.read_text())):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        path = page.parent / file if file else page
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), target


def test_each_page_is_linked_from_readme() -> None:
    linked = {(ROOT / target.split("#")[0]).resolve() for target in LINK.findall(README)}
    missing = [page.name for page in PAGES[1:] if page not in linked]
    assert not missing, "README.md has no link to them"


def test_readme_quotes_its_scenario_whole() -> None:
    assert blocks(README, "yaml") == [(ROOT / f"scenarios/{SAMPLE}.yaml").read_text()]


def test_readmes_sample_of_a_run_is_what_the_scenario_gives() -> None:
    rows = [judge(plan, right(plan)).row for plan in loaded(SAMPLE).plans.values()]
    lines = [Line(SAMPLE, row.claim.value, row.link.value, "passed", row) for row in rows]
    wanted = [line.rstrip() for line in table(lines, colour=False).splitlines()]
    (sample,) = (block for block in blocks(README, "") if f"run scenarios/{SAMPLE}.yaml" in block)
    shown = sample.splitlines()
    start = shown.index(wanted[0])
    assert shown[start : start + len(wanted)] == wanted


def test_readmes_sample_of_doctor_is_what_it_says(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (sample,) = (block for block in blocks(README, "") if "$ vsock-harness doctor" in block)
    typed, _, shown = sample.partition("\n")
    monkeypatch.chdir(ROOT)
    assert main(shlex.split(typed)[2:]) == 1
    assert capsys.readouterr().out.replace(str(ROOT), "…") == shown


def cells(text: str) -> list[list[str]]:
    """The rows of tables whose first cell is a code span."""
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip()[1:-1])] for line in lines]


def verdicts(text: str) -> dict[str, str]:
    """Of each claim whether it holds, as the bold words that a row's last cell begins with."""
    found = {row[0].strip("`"): re.match(r"\*\*(.*?)\*\*", row[-1]) for row in cells(text) if len(row) == 3}
    return {name: match[1] for name, match in found.items() if match and name in set(Claim)}


def test_readme_and_claims_say_the_same_of_each_claim() -> None:
    told = verdicts(README)
    assert list(told) == [claim for claim in Claim if claim is not Claim.OTHER]
    assert told == verdicts((ROOT / "docs/claims.md").read_text())


def part(text: str, title: str) -> str:
    """What stands below a heading, up to the next of its level."""
    return text.split(f"\n## {title}\n")[1].split("\n## ")[0]


def keys(struct: type[Written]) -> dict[str, str]:
    """Each key of a mapping and its default as a page has it: required, or the value, if it has one."""
    return {
        key: "required" if entry.required else _written(entry.default)
        for key, entry in entries(struct).items()
    }


def _written(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value or "none")


@pytest.mark.parametrize(("title", "struct"), [("Keys", written.File), ("Groups", written.Group)])
def test_the_format_page_has_each_key_and_its_default(title: str, struct: type[Written]) -> None:
    told = {row[0].strip("`"): row[1].strip("`") for row in cells(part(FORMAT, title))}
    assert told == keys(struct)


def test_the_format_page_has_each_step_its_keys_and_defaults() -> None:
    told = {row[0].strip("`"): row[1] for row in cells(part(FORMAT, "Steps"))}
    steps = entries(written.Step)
    assert list(told) != []
    assert told.keys() == steps.keys()
    for step, entry in steps.items():
        assert isinstance(entry.shape, Record)
        known = entries(entry.shape.struct)
        said = re.findall(r"`([\w-]+)`(?: \(([^)]*)\))?", told[step])
        assert {key for key, _ in said} == known.keys(), step
        given = {
            key: one.default for key, one in known.items() if not one.required and one.default is not None
        }
        assert {key: value.strip('"') for key, value in said if key in given} == {
            key: str(value) for key, value in given.items()
        }, step


def test_the_format_page_has_each_fault() -> None:
    rows = cells(part(FORMAT, "Faults"))
    named = {name for row in rows if len(row) == 3 for name in re.findall(r"`([\w-]+)`", row[0])}
    assert named == set(FaultKind)


def test_the_example_in_python_can_be_imported() -> None:
    (example,) = blocks(FORMAT, "python")
    there: dict[str, object] = {"__name__": "example"}
    exec(compile(example, "docs/scenarios.md", "exec"), there)
    assert any(name.startswith("test_") for name in there)


def test_the_answers_of_readme_are_those_of_reports() -> None:
    """And docs/claims.md gives each claim the same verdict."""
    table = README.partition("## What became")[2].partition("\n## ")[0]
    for page in (table, (ROOT / "docs/claims.md").read_text()):
        rows = re.findall(r"^\| `([a-z-]+)` \| [^|]+ \| ([^|]+) \|$", page, re.MULTILINE)
        told = {Claim(name): re.sub(r"[*`]", "", said) for name, said in rows}
        assert list(told) == [claim for claim in Claim if claim.answer]
        bold = re.compile(r"^holds( in part|( for| on) [\d. to,and]*\d)?")
        for claim, said in told.items():
            if page is table:
                assert said == claim.answer
            ours, theirs = bold.match(claim.answer), bold.match(said)
            assert ours, claim
            assert theirs, claim
            assert ours[0] == theirs[0]
