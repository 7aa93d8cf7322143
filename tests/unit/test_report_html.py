"""The report's page: complete, true to its data, closed to what guests say, and asking for nothing."""

from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import msgspec
import pytest
from msgspec.structs import replace

from harness.model.claims import Claim
from harness.report import html, markdown, matrix, overview, times
from harness.report.markup import el, shown
from harness.report.results import CaseOutcome, LeftOut, Results
from harness.report.section import Section
from tests.unit import runs
from tests.unit.test_report_timeline import large
from tests.unit.traces import plan, right


class Page(HTMLParser):
    """A page as a browser takes it apart."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self.sections: list[str] = []
        self._within = ""
        self.raw: dict[str, str] = {"style": "", "script": ""}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self._within = tag if tag in self.raw else ""
        if tag == "h2":
            self.sections += [value or "" for name, value in attrs if name == "id"]

    def handle_endtag(self, tag: str) -> None:
        self._within = ""

    def handle_data(self, data: str) -> None:
        if self._within:
            self.raw[self._within] += data
        else:
            self.text += data

    def values(self, name: str) -> list[str]:
        """The values of all attributes of a name."""
        return [value for _, found, value in self.attributes if found == name]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def mixed(folder: Path) -> Results:
    return runs.mixed(folder)


@pytest.fixture(scope="module")
def page(mixed: Results) -> Page:
    return Page(html.page(mixed))


def test_nothing_in_it_asks_for_anything(page: Page) -> None:
    names = {name for _, name, _ in page.attributes}
    assert not {name for name in names if name.startswith("on") or "src" in name or name == "style"}
    assert not names & {"action", "formaction", "background", "poster", "ping", "data", "manifest", "cite"}
    assert all(value.startswith(("#", "./")) for value in page.values("href"))
    assert "url(" not in page.raw["style"]
    assert not re.search(r"@import|@font-face|image-set|https?:", page.raw["style"])
    assert not re.search(r"https?:|fetch|XMLHttp|import|WebSocket|Beacon|innerHTML|eval", page.raw["script"])
    assert (page.tags["script"], page.tags["style"], page.tags["link"], page.tags["img"]) == (1, 1, 0, 0)
    assert "http-equiv" in names


def test_what_a_guest_said_is_there_as_text(page: Page) -> None:
    said = shown(runs.HOSTILE)
    assert page.text.count(said) >= 6
    assert f";expected 00, seen {said}" in page.text.splitlines()  # of what marks tell, by number
    assert "alert" not in page.raw["script"]


def test_every_link_leads_somewhere_and_no_name_is_given_twice(page: Page, folder: Path) -> None:
    ids = Counter(page.values("id"))
    assert ids.most_common(1)[0][1] == 1
    addresses = page.values("href")
    assert {address[1:] for address in addresses if address.startswith("#")} <= set(ids)
    files = {unquote(address) for address in addresses if not address.startswith("#")}
    assert './lab0/a"b <c>.log' in files
    assert "./multiple-clients-8-vsock/trace.jsonl" in files
    assert "./multiple-clients-8-vsock/qemu.stderr" not in files  # empty
    assert all((folder / file).is_file() for file in files)


def test_each_claim_is_there_and_those_without_scenarios_say_so(page: Page) -> None:
    for claim in Claim:
        assert (claim.sentence in page.text) is (claim is not Claim.OTHER)
    assert page.text.count("no scenario of this claim in this run") == len(Claim) - 3


def test_what_is_about_no_claim_has_a_row_of_its_own(tmp_path: Path) -> None:
    ours = replace(plan("multiple-clients-8", "vsock"), claim=Claim.OTHER)
    found = runs.write(tmp_path, [runs.evidence(tmp_path, ours, right(ours))])
    assert Claim.OTHER.sentence in Page(html.page(found)).text
    summary = markdown.markdown(found)
    assert "| `other` | ✅ 1 |" in summary
    assert summary.count("`other`") == 1


def test_the_matrix_counts_and_leads_to_the_worst(mixed: Results) -> None:
    text = html.page(mixed)
    row = re.search(r"<tr class=claim><th><strong>multiple-clients</strong>.*?<tr", text, re.S)
    assert row
    cells = re.findall(r"<td data-link=([\w-]+)(?: class=([\w-]+))?><a href=(#[\w-]+)>(.*?)</a>", row[0])
    told = [
        (link, kind, address, " ".join(re.sub("<[^>]*>", "", said).split()))
        for link, kind, address, said in cells
    ]
    assert told == [
        ("vsock", "o-failed", "#multiple-clients-8--vsock", "✗ 1 failed"),
        ("virtio-serial", "", "#multiple-clients-8--virtio-serial", "✓ 1 passed"),
        ("virtconsole", "o-error", "#multiple-clients-8--virtconsole", "! 1 error"),
        ("isa-serial", "o-skipped", "#multiple-clients-8--isa-serial", "» 1 skipped"),
    ]
    assert "not on this link" in text  # serial-stale-reply was not run on virtio-serial


def test_the_matrix_and_the_deaths_say_what_was_left_out(tmp_path: Path) -> None:
    killed, eight = plan("reliability-qemu-killed", "vsock"), plan("multiple-clients-8", "vsock")
    cases = [runs.evidence(tmp_path, one, right(one)) for one in (killed, eight)]
    out = [
        ("multiple-clients-8", "virtio-serial"),
        ("reliability-guest-panic", "vsock"),
        ("reliability-qemu-killed", "hybrid-vsock"),
    ]
    left = tuple(LeftOut(id=name, subject=runs.subject(plan(name, link))) for name, link in out)
    found = runs.write(tmp_path, cases, left_out=left, choice="-m 'not long'")
    page = Page(html.page(found))
    assert "3 of 5 left out by -m 'not long'" in page.text
    assert "– left out of this run" in page.text
    assert (
        "Left out of this run: reliability-guest-panic; on hybrid-vsock reliability-qemu-killed." in page.text
    )
    assert "3 of 5 left out by -m 'not long'" in markdown.markdown(found)
    text = html.page(found)
    assert "<th>left out of this run<td colspan=1 class=none>reliability-guest-panic" in text.replace(
        "</th>", ""
    )


def test_each_claims_row_has_what_became_of_it(page: Page, mixed: Results) -> None:
    for claim in Claim:
        assert claim.answer in page.text
        assert claim.answer in markdown.markdown(mixed) or claim not in {
            item.subject.claim for item in mixed.items
        }
    assert "no scenario of this claim in this run; make requirements shows it" in page.text


def test_the_head_says_how_it_ended_and_on_what(page: Page) -> None:
    assert "2 failed, 1 error, 1 not run of 9" in page.text
    assert "The run was interrupted." in page.text
    for word in (
        "lab (kvm missing)",
        "2026-01-02 03:04:05+00:00",
        "6 min 31 s",
        "0.1.0, commit 0123456789ab+",
    ):
        assert word in page.text
    assert "10.4 to 18.6 × as slow as a current desktop core; absolute times say little" in page.text
    assert "net.vsock.g2h_fallback: is 1" in page.text


def test_expected_and_seen_and_the_differences(page: Page) -> None:
    assert "≠ served 5, ≠ intact 5, ≠ refused 1, ≠ garbled 1, ≠ lost 1" in page.text
    assert "served 5 of 8, expected 8; first: client/0 read wrong data" in page.text
    assert "as expected\nasker: served 1, intact 1\nnext: stale 1\n" in page.text
    assert "asker: served\u00a01; next: stale\u00a01" in page.text  # the table of claims


def test_what_is_as_expected_is_not_said_twice(tmp_path: Path) -> None:
    on_link = plan("reliability-proxied-agent-killed", "serial-proxy")
    text = Page(html.page(runs.write(tmp_path, [runs.evidence(tmp_path, on_link, right(on_link))]))).text
    said = text[text.index("expected\n") :].splitlines()[:7]
    sending = "sending: sees nothing, next-send ok{}, then silent, reconnect silent"
    assert said[:4] == ["expected", sending.format(" or blocked"), "seen", sending.format("")]
    assert said[4:6] == ["as expected", "served 5, intact 5"]
    assert said[6].startswith("idle, receiving: sees nothing")


def test_each_claim_is_said_once_before_its_scenarios(page: Page) -> None:
    assert page.text.count(f"{Claim.MULTIPLE_CLIENTS} {Claim.MULTIPLE_CLIENTS.sentence}\n") == 1


def test_a_cell_is_cut_between_words_and_a_number_stays_with_its_word() -> None:
    said = f"beside: served 1; {'x' * 42}; waiting 49"
    assert matrix._brief(said) == f"beside: served\u00a01; {'x' * 42}; …"
    assert matrix._brief("served 1, waiting 7") == "served\u00a01, waiting\u00a07"
    assert matrix._brief("new 34.3 × as slow, old 9 ×") == "new 34.3\u00a0× as slow, old 9\u00a0×"


@pytest.mark.parametrize(
    ("counts", "says"),
    [
        ({}, "No tests"),
        ({"passed": 1}, "1 passed"),
        ({"passed": 30}, "All 30 passed"),
        ({"passed": 28, "skipped": 2}, "28 passed, 2 skipped"),
        ({"skipped": 2}, "2 skipped"),
        ({"passed": 1, "not run": 3}, "3 not run of 4"),
        ({"passed": 1, "failed": 1, "error": 2, "skipped": 1}, "1 failed, 2 errors of 5"),
    ],
)
def test_the_verdict_in_one_phrase(counts: dict[str, int], says: str) -> None:
    assert overview.verdict({outcome: counts.get(outcome.value, 0) for outcome in CaseOutcome}) == says


def test_only_sections_with_data_are_there(tmp_path: Path, page: Page) -> None:
    all_of_them = ["attention", "claims", "scenarios", "times", "tests", "evidence"]
    assert page.sections == [f"{name}-title" for name in all_of_them]
    on_link = plan("pod-diagram", "vsock")
    skipped = runs.case(on_link, CaseOutcome.SKIPPED, "host: none")
    few = Page(html.page(runs.write(tmp_path, [skipped])))
    assert few.sections == [f"{name}-title" for name in ("attention", "claims", "scenarios", "evidence")]
    (tmp_path / "green").mkdir()
    green = runs.write(tmp_path / "green", [runs.evidence(tmp_path / "green", on_link, right(on_link))])
    assert "attention-title" not in Page(html.page(green)).sections


def test_a_further_section_is_a_function(mixed: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    def deaths(results: Results) -> Section | None:
        return Section("deaths", "What dies, what each end sees", el("p", f"{len(results.items)} deaths"))

    monkeypatch.setattr(html, "SECTIONS", (*html.SECTIONS, deaths))
    made = Page(html.page(mixed))
    assert made.sections[-1] == "deaths-title"
    assert "7 deaths" in made.text
    assert "#deaths" in made.values("href")


def test_a_run_that_was_cut_off_says_so(tmp_path: Path) -> None:
    on_link = plan("pod-diagram", "vsock")
    found = runs.write(tmp_path, [runs.evidence(tmp_path, on_link, right(on_link))])
    (tmp_path / "pod-diagram-vsock" / "trace.jsonl").write_text("{")
    cut_off = msgspec.structs.replace(found, run=None)
    assert "run.json is missing: the run was cut off" in Page(html.page(cut_off)).text
    assert (
        "The run did not come to an end of its own."
        in Page(html.page(runs.write(tmp_path, [], exit_code=None))).text
    )


def test_of_what_passed_the_files_read_most_are_linked_and_of_others_all(tmp_path: Path) -> None:
    good, bad = plan("multiple-clients-8", "vsock"), plan("multiple-clients-8", "virtio-serial")
    cases = [runs.evidence(tmp_path, good, right(good)), runs.evidence(tmp_path, bad, runs.garbled(bad))]
    page = Page(html.page(runs.write(tmp_path, cases)))
    linked = [address for address in page.values("href") if address.startswith("./multiple")]
    assert [address for address in linked if "-8-vsock/" in address] == [
        f"./multiple-clients-8-vsock/{name}" for name in ("console.log", "trace.jsonl")
    ]
    assert "trace.jsonl. 39.67 s: pod 34.92, clients 4.50, end 0.25." in page.text
    assert len([address for address in linked if "-virtio-serial/" in address]) == 5


def test_folders_of_a_test_stand_below_it_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for name in ("lab0/console.log", "test_x/a.json", "test_x/pod-10/qmp.jsonl", "test_x/pod-9/qmp.jsonl"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    cases = [runs.case(plan("pod-diagram", "vsock"), CaseOutcome.PASSED)]
    page = Page(html.page(runs.write(tmp_path, cases)))
    said = page.text[page.text.rindex("Evidence of the run") :].split("\n")
    assert [line for line in said if line][1:8] == [
        *("run", "versions.json · run.json", "lab0", "console.log"),
        *("test_x", "a.json", "pod-9: qmp.jsonl"),
    ]
    assert "./test_x/pod-10/qmp.jsonl" in page.values("href")


def test_no_two_phases_that_are_seen_have_one_colour(tmp_path: Path) -> None:
    on_link = plan("pod-diagram", "vsock")
    names = ("queue", "template", "clone", "identity", "hello", "programs", "plug", "copy", "boot")
    case = runs.evidence(tmp_path, on_link, right(on_link))
    facts = tmp_path / "pod-diagram-vsock/facts.json"
    told = msgspec.json.decode(facts.read_bytes())
    seconds = {name: 0.001 if name == "queue" else 1.0 for name in names}
    facts.write_bytes(msgspec.json.encode({**told, "seconds": seconds}))
    section = times.times(runs.write(tmp_path, [case]))
    assert section
    text = str(section.body)
    keys = re.findall(r"<li>(?:<svg aria-hidden=true><rect width=12 class=(k\d) /></svg>\n)?(\w+) ", text)
    kinds = {name: kind for kind, name in keys}
    assert kinds.pop("queue") == ""  # too short to be seen
    assert len(set(kinds.values())) == len(kinds) == len(names) + 1
    assert set(re.findall(r"<path class=(k\d)", text)) == set(kinds.values())


def test_the_style_is_without_what_says_nothing() -> None:
    style = "/* a\nb */\n.a > b:is(c, d) e {\nwidth: calc(100% - 1rem);\ny: 1px;\n}\n"
    assert html._tight(style) == ".a>b:is(c,d) e{width:calc(100% - 1rem);y:1px}\n"
    assert html._tight("@media (x: y) {\nf { g: h; }\n}\n") == "@media (x:y){f{g:h}}\n"


def test_long_traces_of_many_clients_stay_small(tmp_path: Path) -> None:
    cases = []
    for scenario, link in (("multiple-clients-50", "vsock"), ("multiple-clients-50", "virtio-serial")):
        on_link = plan(scenario, link)
        cases.append(runs.evidence(tmp_path, on_link, large(on_link, 40)))
    assert len(html.page(runs.write(tmp_path, cases))) < 125_000


def test_the_whole_catalogue_stays_small(tmp_path: Path) -> None:
    """Less than 4 KB an item, the page's own style and script included, each client's row among it."""
    results = runs.catalogue(tmp_path)
    assert len(results.items) > 60
    text = html.page(results)
    assert len(text.encode()) < 4000 * len(results.items)
    drawn, _, times = text[text.index("<section id=scenarios ") :].partition("<section id=times ")
    drawn = drawn.partition("<section id=latency ")[0]
    assert drawn.count('class="legend ') == drawn.count("id=texts") == 1
    lists = re.findall(r"data-t=([\d,]+)", drawn)
    numbers = [int(number) for each in lists for number in each.split(",") if number]
    listed = drawn.partition("id=texts")[2].count("<li>")
    assert (min(numbers), max(numbers) + 1) == (0, listed)
    assert len(numbers) > 4 * listed
    assert times.count("<tr>") == 26
    assert f"The 25 of {len(results.items)} that took longest" in times
