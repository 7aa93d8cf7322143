"""Facts in the report: marked where the judge calls them red, in each place."""

from __future__ import annotations

from pathlib import Path

from harness.report import deaths
from harness.report.words import plain, seen
from tests.unit import runs
from tests.unit.systems import met_as
from tests.unit.traces import plan


def test_what_is_right_only_where_it_is_expected_is_marked(tmp_path: Path) -> None:
    on_link = plan("reliability-proxied-guest-reset", "serial-proxy")
    assert "reconnect" not in on_link.expect.facts["idle"]
    garbled = met_as("idle/0", reconnect="garbled")(on_link)
    found = runs.write(tmp_path, [runs.evidence(tmp_path, on_link, garbled)])
    (death,) = deaths.deaths(found)
    assert [one.client for one in death.met if not one.fits] == ["idle/0"]
    (item,) = found.items
    assert item.verdict
    assert "reconnect garbled" in [
        count.text for part in seen(on_link, item.verdict) for count in part.counts if not count.fits
    ]
    assert "≠ reconnect" in plain(seen(on_link, item.verdict, brief=True))
