"""For each scenario and each of its links, systems that turn it red, and what the verdict then says."""

from __future__ import annotations

from tests.unit.reds.clients import CLIENTS
from tests.unit.reds.deaths import DEATHS
from tests.unit.reds.ports import BEHIND_A_PORT
from tests.unit.reds.serial import SERIAL
from tests.unit.reds.unasked import UNASKED
from tests.unit.systems import Red

RED: list[Red] = [*UNASKED, *SERIAL, *CLIENTS, *DEATHS, *BEHIND_A_PORT]
