"""Puts our session in the place of xdist's."""

from __future__ import annotations

from collections.abc import Callable

import execnet
import pytest

from harness.plugin.rerun import Hosts
from harness.plugin.rerunreport import Reruns
from harness.plugin.rerunsession import Session
from harness.plugin.rerunwork import DISTS


def use(
    config: pytest.Config, hosts: Hosts, count: int, alias: Callable[[execnet.XSpec], str] | None = None
) -> None:
    """Have xdist's session replace hosts; to be called before pytest configures its plugins.

    At most `2 * count + 2` replacements are made, `count` being how many hosts there are; or as many as
    `--max-worker-restart` says. `alias` tells a host from its workers' spec (the destination of `ssh=`). With
    another `--dist` than load and worksteal nothing is replaced: a worker that dies ends the run.
    """
    option = config.option
    if option.dist not in DISTS:
        # xdist would start the worker anew on the dead host, and end the session without a table
        option.maxworkerrestart = option.maxworkerrestart or "0"
        return
    most = 2 * count + 2 if option.maxworkerrestart is None else int(option.maxworkerrestart)
    told = Reruns()
    config.pluginmanager.register(told, "vsock-harness-reruns")
    session = _Swap(lambda: Session(config, hosts, told, most, alias or (lambda spec: str(spec.ssh))))
    config.pluginmanager.register(session, "vsock-harness-rerun")


class _Swap:
    """Puts our session in the place of xdist's."""

    def __init__(self, make: Callable[[], Session]) -> None:
        self._make = make

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        """After xdist's own: that is trylast too, but registered before. It makes none to collect only."""
        manager = config.pluginmanager
        if manager.has_plugin("dsession"):
            for name in ("dsession", "terminaldistreporter"):
                if manager.has_plugin(name):
                    manager.unregister(name=name)
            manager.register(self._make(), "dsession")
