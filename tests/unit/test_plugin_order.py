"""In which order items run."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.model.link import Link
from harness.plugin import known
from harness.plugin.order import seconds

SCENARIOS = Path(__file__).resolve().parents[2] / "scenarios"


def told(name: str, link: Link) -> float:
    return seconds(known.scenario(SCENARIOS / f"{name}.yaml").for_link(link))


@pytest.mark.parametrize(
    ("longer", "shorter"),
    [
        (("multiple-clients-50", Link.VSOCK), ("multiple-clients-8", Link.VSOCK)),
        (("multiple-clients-8", Link.VSOCK), ("serial-portable", Link.VSOCK)),
        (("multiple-clients-50", Link.VSOCK), ("multiple-clients-50", Link.VIRTIO_SERIAL)),
        (("serial-portable", Link.ISA_SERIAL), ("serial-portable", Link.VIRTIO_SERIAL)),
        (("multiple-clients-8", Link.ISA_SERIAL), ("serial-stale-reply", Link.ISA_SERIAL)),
        (("serial-second-client", Link.VIRTIO_SERIAL), ("serial-second-client", Link.VSOCK)),
        (("reliability-qemu-killed", Link.VSOCK), ("reliability-half-close", Link.VSOCK)),
    ],
)
def test_of_two_plans_the_longer_is_known(longer: tuple[str, Link], shorter: tuple[str, Link]) -> None:
    assert told(*longer) > told(*shorter)


def test_a_flood_is_no_matter_of_its_bytes() -> None:
    assert told("multiple-clients-flood", Link.VSOCK) < 20
