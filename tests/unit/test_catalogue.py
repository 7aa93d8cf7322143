"""The catalogue, scenarios/README.md, has each scenario and claimed test, with its links and versions."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from harness.model.claims import Claim
from harness.model.link import Link
from tests.unit.traces import SCENARIOS, loaded

ROOT = Path(__file__).resolve().parents[2]
PLACES = [SCENARIOS, ROOT / "tests" / "hosts"]
"""Where tests bear claims."""

COLLECT = """
import json, sys, pytest

class Told:
    def pytest_collection_finish(self, session):
        said = [(item.path.name, dict(item.user_properties)) for item in session.items]
        sys.stderr.write("\\n" + json.dumps(said, default=str))

sys.exit(pytest.main(sys.argv[1:], plugins=[Told()]))
"""
CLAIMS = [claim for claim in Claim if claim is not Claim.OTHER]
"""Each scenario that comes along is about a sentence of the page's."""

WHERE = "## On which links, since which kernel"
SINCE = re.compile(r"any|\d+\.\d+")
OLDEST = "4.8"
"""The Linux that has vhost_vsock, where a file names no later one."""

Rows = dict[str, list[list[str]]]
Files = dict[str, tuple[set[Claim], set[str]]]


def parts(text: str) -> Rows:
    """Rows of tables by the heading that they stand under; a row is its cells."""
    found: Rows = {}
    heading = ""
    for line in text.splitlines():
        if line.startswith("## "):
            heading = line
            found[heading] = []
        elif line.startswith("| `"):
            found.setdefault(heading, []).append([cell.strip() for cell in line.strip()[1:-1].split("|")])
    return found


def listed(places: Sequence[Path]) -> Files:
    """Each file that pytest finds items in: the claims that they bear, and on which links."""
    words = [*map(str, places), "--collect-only", "-q", "--host", "local", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-P", "-c", COLLECT, *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    found: Files = {}
    for name, said in json.loads(done.stderr.splitlines()[-1]):
        claims, links = found.setdefault(name, (set(), set()))
        claims |= {Claim(said["claim"])} if "claim" in said else set()
        links |= {said["link"]} if "link" in said else set()
    return {name: (claims, links) for name, (claims, links) in found.items() if claims}


def needed(links: set[str], linux: str | None, in_guest: str | None) -> str:
    """Since when a scenario file of these links can run, whose keys `linux` and `guest-linux` are those."""
    kinds = {Link(link).is_vsock for link in links}
    if True not in kinds:
        return "any"
    of_guest = f"; the guest's {in_guest}" if in_guest and in_guest != linux else ""
    return f"{linux or OLDEST}{of_guest}{'; serial ports any' if False in kinds else ''}"


def wrong(text: str, files: Files, linux: Mapping[str, tuple[str | None, str | None]]) -> Iterator[str]:
    """What the catalogue lacks, has too much, or says otherwise than the files.

    :param linux: of each scenario file its keys `linux` and `guest-linux`.
    """
    found = parts(text)
    headings = {claim: next((h for h in found if h.startswith(f"## {claim} —")), "") for claim in CLAIMS}
    yield from (
        f"{claim}: has no part '## {claim} — …'" for claim, heading in headings.items() if not heading
    )
    told = {(name(row), claim) for claim, heading in headings.items() for row in found.get(heading, [])}
    meant = {(file, claim) for file, (claims, _) in files.items() for claim in claims}
    yield from (f"{file}: not under {claim}" for file, claim in sorted(meant - told))
    yield from (f"{file}: under {claim}, which it is not about" for file, claim in sorted(told - meant))
    where = {name(row): row for row in found.get(WHERE, [])}
    yield from (f"{file}: not under '{WHERE[3:]}'" for file in sorted(files.keys() - where.keys()))
    yield from (f"{file}: no such file" for file in sorted(where.keys() - files.keys()))
    for file in sorted(files.keys() & where.keys()):
        links, since = (*where[file], "", "")[1:3]
        says = set(re.findall(r"[\w-]+", re.sub(r"\(.*?\)|none", "", links)))
        if says != files[file][1]:
            yield f"{file}: said to be on {links}, is on {', '.join(sorted(files[file][1])) or 'none'}"
        if not SINCE.match(since):
            yield f"{file}: since {since!r}, which is no Linux version and not 'any'"
        elif file in linux and since != (meant_since := needed(files[file][1], *linux[file])):
            yield f"{file}: since {since!r}, is {meant_since!r}"


def name(row: list[str]) -> str:
    """The file that a row is about, without its folder; what of it may stand behind."""
    return row[0].split("`")[1].split("/")[-1]


@pytest.mark.slow
def test_the_catalogue_is_complete_and_says_what_the_files_say() -> None:
    scenarios = [loaded(path.stem) for path in SCENARIOS.glob("*.yaml")]
    plans = {one.name: one.for_link(one.links[0]) for one in scenarios}
    linux = {f"{name}.yaml": (plan.linux, plan.guest_linux) for name, plan in plans.items()}
    text = (SCENARIOS / "README.md").read_text()
    found = list(wrong(text, listed([path for path in PLACES if path.is_dir()]), linux))
    assert not found, "\n".join(["scenarios/README.md", *found])


GOOD = f"""
## multiple-clients — many

| `a.yaml` | shows |
| `test_b.py` | shows |

{WHERE}

| `a.yaml` | vsock, isa-serial | 4.8; serial ports any |
| `test_b.py` | none | any |
"""
FILES: Files = {
    "a.yaml": ({Claim.MULTIPLE_CLIENTS}, {"vsock", "isa-serial"}),
    "test_b.py": ({Claim.MULTIPLE_CLIENTS}, set()),
}


@pytest.mark.parametrize(
    ("was", "now", "told"),
    [
        ("| `a.yaml` | shows |", "", "a.yaml: not under multiple-clients"),
        ("| `a.yaml` | vsock, isa-serial | 4.8; serial ports any |", "", f"a.yaml: not under '{WHERE[3:]}'"),
        ("vsock, isa-serial", "vsock", "a.yaml: said to be on vsock, is on isa-serial, vsock"),
        ("none", "vsock", "test_b.py: said to be on vsock, is on none"),
        ("4.8; serial ports any", "", "a.yaml: since '', which is no Linux version and not 'any'"),
        ("4.8;", "5.14;", "a.yaml: since '5.14; serial ports any', is '4.8; serial ports any'"),
        ("`a.yaml` | shows", "`c.yaml` | shows", "c.yaml: under multiple-clients, which it is not about"),
        ("## multiple-clients — many", "## many", "multiple-clients: has no part '## multiple-clients — …'"),
        ("| `test_b.py` | none", "| `test_c.py` | none", "test_c.py: no such file"),
    ],
)
def test_a_catalogue_that_differs_is_told(was: str, now: str, told: str) -> None:
    assert was in GOOD
    assert told not in list(wrong(GOOD, FILES, {"a.yaml": (None, None)}))
    assert told in list(wrong(GOOD.replace(was, now, 1), FILES, {"a.yaml": (None, None)}))


@pytest.mark.parametrize(
    ("keys", "since"),
    [
        ((None, None), "4.8"),
        (("5.14", None), "5.14"),
        (("5.14", "5.14"), "5.14"),
        ((None, "5.14"), "4.8; the guest's 5.14"),
    ],
)
def test_a_guest_that_must_be_newer_is_named(keys: tuple[str | None, str | None], since: str) -> None:
    assert needed({"vsock"}, *keys) == since


@pytest.mark.slow
def test_claims_and_links_are_those_of_the_items(tmp_path: Path) -> None:
    (tmp_path / "test_x.py").write_text(
        'import pytest\n@pytest.mark.claim("high-density", link="vsock")\ndef test_a(): ...\n'
        '@pytest.mark.claim("reliability")\ndef test_b(): ...\ndef test_c(): ...\n'
    )
    (tmp_path / "test_y.py").write_text("def test_d(): ...\n")
    assert listed([tmp_path]) == {"test_x.py": ({Claim.HIGH_DENSITY, Claim.RELIABILITY}, {"vsock"})}
