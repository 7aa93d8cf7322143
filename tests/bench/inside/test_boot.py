"""From nothing to the first answered request: a cold boot against a clone of the template."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.model.link import Link
from harness.plugin.fixtures import Pods
from harness.run.pod import Pod

from .figures import Figures

pytestmark = pytest.mark.vm


def test_first_answer(pods: Pods, figures: Figures, round: int) -> None:
    boots: dict[str, Callable[[Link], Pod]] = {"clone": pods.clone, "cold": pods.boot}
    for subject in list(boots)[:: 1 if round % 2 else -1]:
        boots[subject](Link.VSOCK)  # an emulator translates code when it first runs: each follows its like
        pods.close()
        pod = boots[subject](Link.VSOCK)
        phases = {name: value for name, value in pod.seconds.items() if name != "template"}
        pods.close()
        figures.add("first answer", subject, sum(phases.values()), "s", pair=str(round))
        for name, value in phases.items():
            figures.add("boot phase", f"{subject}: {name}", value, "s")
