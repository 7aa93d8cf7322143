"""The process that the user started: chooses hosts, starts workers there, shows and keeps the results."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from harness.host import admission
from harness.host.paths import cache_root, from_here
from harness.host.runfolder import RunFolder
from harness.image.store import Image, Store
from harness.lab import lab
from harness.lab.openssh import resolved
from harness.model.errors import InfrastructureError, UsageError
from harness.model.progress import Progress
from harness.model.verdict import Verdict
from harness.plugin import (
    ahead,
    asked,
    endings,
    evidence,
    hosts,
    known,
    options,
    reports,
    sending,
    trial,
    versions,
)
from harness.plugin.bench import RESULTS, Setting
from harness.plugin.collect import scenario_files
from harness.plugin.reports import HEADER, NOTES
from harness.plugin.rerunreport import NOT_RUN
from harness.report import console, folders
from harness.report.progress import Lines
from harness.run.place import USUAL

FLEET = pytest.StashKey["hosts.Fleet | None"]()

_TELLING = ("openssh-server", "systemd")
"""Packages of a guest whose versions a run's header names."""

_TELLS_WHY = pytest.StashKey[bool]()
"""Whether this process collects itself, no host is there, and it says why there is nothing to run."""


@contextlib.contextmanager
def around(config: pytest.Config) -> Iterator[None]:
    """Around the whole run: check all scenarios, then bring hosts up; afterwards bring evidence home.

    :raise pytest.UsageError: for anything that keeps the run from starting; pytest exits with 4.
    :raise SystemExit: it was interrupted before its tests began, or behind them.
    """
    config.stash[NOTES], config.stash[FLEET], config.stash[HEADER] = [], None, []
    config.stash[RESULTS], config.stash[_TELLS_WHY] = config.option.vsock_results, False
    if not _is_ours(config):
        yield
        return
    with endings.told(config, _parent(config)):
        wish = _checked(config)
        config.stash[_TELLS_WHY] = config.option.collectonly or _is_for_nothing(config, wish)
        if not config.stash[_TELLS_WHY]:
            with _run(config, wish):
                yield
            return
        if not config.option.collectonly:
            config.stash[HEADER] = ["host: none needed"]
            trial.at_home(config)
        yield


def _parent(config: pytest.Config) -> Path:
    return Path(config.invocation_params.dir, config.option.vsock_results)


def _is_ours(config: pytest.Config) -> bool:
    """Whether anything given can need a VM: a host asked for, or scenario files that are to be run."""
    option = config.option
    help_only = option.help or option.version or option.showfixtures or option.markers
    return not help_only and bool(option.vsock_hosts or (not option.collectonly and scenario_files(config)))


def _is_for_nothing(config: pytest.Config, wish: asked.Asked) -> bool:
    """Whether the run has no test, so that a host would be made ready for nothing."""
    return options.hosts(config) != ["none"] and trial.wanted(config, wish) and trial.leaves_none(config)


def _checked(config: pytest.Config) -> asked.Asked:
    """What the run asks for.

    :raise UsageError: a scenario or an option is wrong.
    """
    wish = asked.check(config)
    if options.hosts(config) == ["none"]:
        wish = asked.for_none(config)
    options.proxy(config)
    options.ssh_config(config)
    memory = options.lab_memory(config)
    if memory is not None and options.hosts(config)[0] in ("auto", "lab"):
        lab.check_memory(memory)
    options.lab_kernel(config)
    options.images(config)
    return wish


@contextlib.contextmanager
def _run(config: pytest.Config, wish: asked.Asked) -> Iterator[None]:
    wanted, images = options.hosts(config), options.images(config)
    parent = _parent(config)
    results = folders.new(parent)
    config.stash[RESULTS] = str(results)
    config.option.xmlpath = config.option.xmlpath or str(results / "junit.xml")
    progress = Lines()
    store = Store(cache_root())
    with contextlib.ExitStack() as stack:
        stack.enter_context(reports.written(config, results))
        # before any host: one that can't be had, and must be, ends the run
        extra = asked.images(store, wish, progress, config.stash[NOTES])
        if wanted[0].startswith("ssh://"):
            folder = stack.enter_context(RunFolder.create())
            given = [resolved(word, options.ssh_config(config)) for word in wanted]
            fleet = stack.enter_context(hosts.addresses(given, images, store, folder, progress))
            header = [f"host: {fleet.words}"]
        else:
            choice = hosts.choose(wanted[0], store, progress)
            header = [f"host: {choice.kind} ({choice.reason})"]
            fleet = None
            if choice.kind == "lab":
                folder = stack.enter_context(RunFolder.create())
                labs = hosts.labs(
                    _lab_wish(config, wish, images), store, folder, results, progress, config.stash[NOTES]
                )
                fleet = stack.enter_context(labs)
                header.append(f"lab: {fleet.words}")
            elif choice.kind != "none":
                header += _no_more_than_carried(config)
                for name in (*asked.usual(wish), *images):
                    store.get(name, progress)
                ahead.made(config, progress)
        header += options.proxy_line(config)
        _write_versions(store, results, options.guest(config))
        header += _guest_words(store, options.guest(config))
        config.stash[HEADER] = [*header, f"results: {from_here(results)}{folders.many(parent)}"]
        config.pluginmanager.register(
            evidence.Unpacking(results, config.stash[NOTES]), "vsock-harness-evidence"
        )
        if fleet:
            fleet.fetch = functools.partial(hosts.bring_home, results=results)
            _use(config, fleet, extra, progress)
        try:
            yield
        finally:
            for remote in fleet.remotes.values() if fleet else ():
                try:
                    hosts.bring_home(remote, results)
                except (InfrastructureError, OSError) as error:
                    why = error.summary if isinstance(error, InfrastructureError) else error
                    note = f"{remote.alias}: its evidence is lost: {why}"
                    config.stash[NOTES].append(note)


def _use(config: pytest.Config, fleet: hosts.Fleet, images: Sequence[Image], progress: Progress) -> None:
    """Have the run's items run there; `images` are sent besides."""
    config.stash[FLEET] = fleet
    sending.distribute(config, fleet, images)
    ahead.made_there(config, fleet, progress)


def _write_versions(store: Store, results: Path, guest: str) -> None:
    """The first file of the run.

    :raise UsageError: nothing can be written there.
    """
    try:
        versions.write(store, results / "versions.json", guest)
    except OSError as error:
        raise UsageError(
            f"nothing can be written to {results}: {error.strerror}", hint="--results DIR"
        ) from error


def _guest_words(store: Store, name: str) -> list[str]:
    """A line for the header where the guest isn't the usual one: which it is, and what boots it."""
    image = store.find(name)
    if name == USUAL or image is None:
        return []
    inits = [f"{one.name} {one.version}" for one in image.manifest.packages if one.name in _TELLING]
    return [f"guest image: {', '.join([f'{name} (Debian {image.manifest.suite})', *inits])}"]


def _no_more_than_carried(config: pytest.Config) -> list[str]:
    """Have xdist start no more workers here than may have VMs at once; a line for the header if it would."""
    most, wanted = admission.places(), sending.asked(config) or 0
    option = config.option
    if option.numprocesses == "auto":
        option.maxprocesses = min(most, option.maxprocesses or most)
        return []
    if wanted <= most or (option.maxprocesses and option.maxprocesses <= most):
        return []
    option.maxprocesses = most
    return [sending.fewer(most, wanted, {"this machine": most})]


def _lab_wish(config: pytest.Config, wish: asked.Asked, images: tuple[str, ...]) -> hosts.LabWish:
    option = config.option
    return hosts.LabWish(
        workers=sending.asked(config),
        memory_mib=options.lab_memory(config),
        items=wish.items,
        fresh=option.vsock_fresh_lab,
        images=images,
        kernel=options.lab_kernel(config),
        guest=options.guest(config),
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config, specs: Any) -> None:
    """Keep xdist from sending its own pytest: workers elsewhere have one (a hook of pytest-xdist)."""
    if config.stash.get(FLEET, None):
        session: Any = config.pluginmanager.get_plugin("dsession")
        session.nodemanager.roots = []


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker where it is (a hook of pytest-xdist)."""
    fleet, results = node.config.stash[FLEET], Path(node.config.stash[RESULTS])
    remote = fleet.remotes.get(node.gateway.spec.ssh) if fleet else None
    if remote is None:
        setting = Setting(str(results))
    else:
        accel = remote.accel.value if remote.accel else ""
        shown = str(from_here(results))
        setting = Setting(str(remote.layout.results), str(remote.layout.images), accel, shown)
    node.workerinput["vsock_harness"] = msgspec.json.encode(setting).decode()
    node.workerinput["vsock_harness_scenarios"] = known.told()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_logreport(report: Any) -> None:
    """Each report says which of the run's hosts it is from, in JUnit XML and run.json too."""
    node = getattr(report, "node", None)
    fleet = node.config.stash.get(FLEET, None) if node else None
    alias = node.gateway.spec.ssh if node and fleet else None
    if fleet and alias in fleet.remotes:
        report.user_properties = [*report.user_properties, (reports.HOST, alias)]


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Which host, why, and where the evidence goes."""
    return config.stash.get(HEADER, [])


def pytest_report_collectionfinish(config: pytest.Config, items: Sequence[pytest.Item]) -> list[str]:
    """Why there is nothing to run."""
    return trial.words(config) if config.stash[_TELLS_WHY] and not items else []


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A run in which the host could do nothing is no success: exit code 5, as for no tests."""
    reporter: Any = session.config.pluginmanager.get_plugin("terminalreporter")
    stats = reporter.stats if reporter else {}
    skipped = [report for report in stats.get("skipped", []) if _row("skipped", report)]
    if skipped and not any(stats.get(word) for word in ("passed", "failed", "error", NOT_RUN)):
        session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The table."""
    rows: list[console.Line] = []
    for word, told in terminalreporter.stats.items():
        rows += [row for report in told if (row := _row(word, report))]
    if rows:
        terminalreporter.write_sep("=", "claims and links")
        terminalreporter.write_line(console.table(rows, terminalreporter.isatty))


def _row(word: str, report: Any) -> console.Line | None:
    properties = dict(getattr(report, "user_properties", ()))
    if "claim" not in properties or word not in ("passed", "failed", "error", "skipped", NOT_RUN):
        return None
    verdict = properties.get("verdict")
    return console.Line(
        scenario=properties.get("scenario") or report.nodeid.split("/")[-1],
        claim=properties["claim"],
        link=properties.get("link", "·"),
        outcome=word,
        row=msgspec.json.decode(verdict, type=Verdict).row if verdict else None,
        remark=_remark(report) if word == "skipped" else str(properties.get("seen", "")),
    )


def _remark(report: Any) -> str:
    return str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else str(report.longrepr)
