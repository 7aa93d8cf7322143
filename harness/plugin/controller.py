"""The process that the user started: chooses hosts, starts workers there, shows and keeps the results."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import secrets
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
import pytest

from harness.host.paths import cache_root
from harness.host.runfolder import RunFolder
from harness.image.store import Store
from harness.lab import deploy
from harness.lab.address import parse
from harness.model.errors import HarnessError, UsageError
from harness.model.scenario import load
from harness.model.verdict import Verdict
from harness.plugin import hosts, options, reports, versions
from harness.plugin.bench import RESULTS, Setting
from harness.plugin.collect import scenario_files
from harness.plugin.reports import HEADER, NOTES
from harness.report import console
from harness.report.progress import Lines

FLEET = pytest.StashKey["hosts.Fleet | None"]()


@contextlib.contextmanager
def around(config: pytest.Config) -> Iterator[None]:
    """Around the whole run: check all scenarios, then bring hosts up; afterwards bring evidence home.

    :raise pytest.UsageError: for anything that keeps the run from starting; pytest exits with 4.
    """
    config.stash[NOTES], config.stash[FLEET], config.stash[HEADER] = [], None, []
    if config.option.collectonly or not _wants_host(config):
        config.stash[RESULTS] = config.option.vsock_results
        yield
        return
    try:
        with _run(config):
            yield
    except HarnessError as error:
        raise pytest.UsageError("\n".join([str(error), *getattr(error, "__notes__", [])])) from None


def _wants_host(config: pytest.Config) -> bool:
    """Whether anything given can need a VM: scenario files, or a host asked for."""
    help_only = (
        config.option.help or config.option.version or config.option.showfixtures or config.option.markers
    )
    return not help_only and bool(config.option.vsock_hosts or scenario_files(config))


@contextlib.contextmanager
def _run(config: pytest.Config) -> Iterator[None]:
    items = _check(config)
    wanted = options.hosts(config)
    results = _results_folder(Path(config.invocation_params.dir, config.option.vsock_results))
    config.stash[RESULTS] = str(results)
    config.option.xmlpath = config.option.xmlpath or str(results / "junit.xml")
    progress = Lines()
    store = Store(cache_root())
    with contextlib.ExitStack() as stack:
        stack.enter_context(reports.written(config, results))
        if wanted[0].startswith("ssh://"):
            folder = stack.enter_context(RunFolder.create())
            given = [parse(word) for word in wanted]
            fleet = stack.enter_context(hosts.addresses(given, store, folder, progress))
            header = [f"host: {fleet.words}"]
        else:
            choice = hosts.choose(wanted[0], store, progress)
            header = [f"host: {choice.kind} ({choice.reason})"]
            fleet = None
            if choice.kind == "lab":
                folder = stack.enter_context(RunFolder.create())
                option = config.option
                wish = hosts.LabWish(
                    workers=_asked(config),
                    memory_mib=option.vsock_lab_memory,
                    items=items,
                    fresh=option.vsock_fresh_lab,
                )
                labs = hosts.labs(wish, store, folder, results, progress, config.stash[NOTES])
                fleet = stack.enter_context(labs)
                header.append(f"lab: {fleet.words}")
            else:
                for name in ("qemu", "pod"):
                    store.get(name, progress)
        versions.write(store, results / "versions.json")
        config.stash[HEADER] = [*header, f"results: {_shown(results)}"]
        if fleet:
            config.stash[FLEET] = fleet
            _distribute(config, fleet)
        try:
            yield
        finally:
            if fleet:
                config.stash[NOTES] += hosts.bring_home(fleet.remotes.values(), results)


def _check(config: pytest.Config) -> int | None:
    """Read every scenario: mistakes are found before a VM boots. How many items there are, if known."""
    wanted = options.links(config)
    files = scenario_files(config)
    wrong, count = [], 0
    for path in files:
        try:
            scenario = load(path)
        except UsageError as error:
            wrong.append(str(error))
        else:
            count += sum(1 for link in scenario.links if wanted is None or link in wanted)
    if wrong:
        raise UsageError("\n".join(wrong))
    others = any(
        not _is_scenarios_only(Path(config.invocation_params.dir, arg.split("::")[0])) for arg in config.args
    )
    return None if others else count


def _is_scenarios_only(path: Path) -> bool:
    return path.suffix in (".yaml", ".yml") or (path.is_dir() and not any(path.rglob("test_*.py")))


def _asked(config: pytest.Config) -> int | None:
    number = config.option.numprocesses
    return number if isinstance(number, int) else None


def _results_folder(parent: Path) -> Path:
    """A new folder for this run in `parent`, and `latest` pointing to it."""
    stamp = datetime.datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    folder = parent / f"{stamp}-{secrets.token_hex(2)}"
    try:
        folder.mkdir(parents=True)
        latest = parent / "latest"
        latest.unlink(missing_ok=True)
        latest.symlink_to(folder.name)
    except OSError as error:
        raise UsageError(f"no results folder in {parent}: {error.strerror}", hint="--results DIR") from error
    return folder


def _shown(path: Path) -> str:
    with contextlib.suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)


def _distribute(config: pytest.Config, fleet: hosts.Fleet) -> None:
    """Send what the arguments name to every host, and make xdist start a worker on each."""
    sent = f"sent-{secrets.token_hex(4)}"
    given = list(config.args)

    def prepare(remote: deploy.Remote) -> None:
        for argument in given:
            _send(config, argument, sent, remote)

    fleet.prepare = prepare
    for remote in fleet.remotes.values():
        fleet.prepare(remote)
    there = [_name_there(config, argument, sent)[0] for argument in given]
    # xdist gives its workers the command line as it was typed, with paths that mean nothing there
    arguments = tuple(there + _worker_options(config.option))
    config.invocation_params = dataclasses.replace(config.invocation_params, args=arguments)
    option = config.option
    shares = hosts.shares(_asked(config), len(fleet.remotes), fleet.most_workers)
    if sum(shares) < (_asked(config) or 0):
        config.stash[HEADER].append(
            f"workers: {sum(shares)} of the {_asked(config)} asked for; each lab carries {fleet.most_workers}"
        )
    pairs = zip(shares, fleet.remotes.values(), strict=True)
    option.tx = [f"{share}*{remote.gateway}" for share, remote in pairs]
    option.dist = "load" if option.dist == "no" else option.dist
    option.maxschedchunk = option.maxschedchunk or 1
    option.numprocesses = None
    if option.maxworkerrestart is None:
        option.maxworkerrestart = "0"  # a host that died would end the whole session when it is tried again


_NEED_CACHE = {"lf": "--lf", "failedfirst": "--ff", "newfirst": "--nf", "stepwise": "--sw"}


def _worker_options(option: argparse.Namespace) -> list[str]:
    """What of the command line workers need; each in one word, so that xdist takes none for a path.

    :raise UsageError: for what needs pytest's cache, which workers elsewhere have not; they would run all.
    """
    for name, word in _NEED_CACHE.items():
        if getattr(option, name, False):
            raise UsageError(f"{word} works on --host local only", hint="name scenarios or items, or use -k")
    words = [f"--tb={option.tbstyle}", f"--capture={option.capture}"]
    words += [f"-k{option.keyword}"] if option.keyword else []
    words += [f"-m{option.markexpr}"] if option.markexpr else []
    words += [f"--deselect={prefix}" for prefix in option.deselect or []]
    words += [f"--link={link}" for link in option.vsock_links or []]
    words += ["--strict-host"] if option.vsock_strict else []
    words += ["--runxfail"] if option.runxfail else []
    return words + (["-" + "v" * option.verbose] if option.verbose > 0 else [])


def _name_there(config: pytest.Config, argument: str, sent: str) -> tuple[str, Path, Path]:
    """The argument as it reads over there; the path it names here, and there below `sent`.

    The names there are as they are here, below a folder that nothing here is called, so that node ids agree.
    """
    name, *rest = argument.split("::")
    path = Path(config.invocation_params.dir, name).resolve()
    inside = path.relative_to(config.rootpath) if path.is_relative_to(config.rootpath) else Path(path.name)
    return "::".join([f"{sent}/{inside}", *rest]), path, inside


def _send(config: pytest.Config, argument: str, sent: str, remote: deploy.Remote) -> None:
    """Push the file or folder that `argument` names."""
    _, path, inside = _name_there(config, argument, sent)
    base, files = (path, _files(path)) if path.is_dir() else (path.parent, [Path(path.name)])
    target = inside if path.is_dir() else inside.parent
    root = remote.layout.work / sent
    remote.ssh.push(base, root / PurePosixPath(target), files, only=False)
    remote.ssh.run(["touch", str(root / "pytest.ini")])


def _files(folder: Path) -> list[Path]:
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(
        p for p in found if p.suffix != ".pyc" and not any(part.startswith(".") for part in p.parts)
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
    fleet = node.config.stash[FLEET]
    remote = fleet.remotes.get(node.gateway.spec.ssh) if fleet else None
    if remote is None:
        setting = Setting(node.config.stash[RESULTS])
    else:
        accel = remote.accel.value if remote.accel else ""
        setting = Setting(str(remote.layout.results), str(remote.layout.images), accel)
    node.workerinput["vsock_harness"] = msgspec.json.encode(setting).decode()


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Which host, why, and where the evidence goes."""
    return config.stash.get(HEADER, [])


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A run in which the host could do nothing is no success: exit code 5, as for no tests."""
    reporter: Any = session.config.pluginmanager.get_plugin("terminalreporter")
    stats = reporter.stats if reporter else {}
    skipped = [report for report in stats.get("skipped", []) if _row("skipped", report)]
    if skipped and not any(stats.get(word) for word in ("passed", "failed", "error")):
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
    if "scenario" not in properties or word not in ("passed", "failed", "error", "skipped"):
        return None
    verdict = properties.get("verdict")
    return console.Line(
        scenario=properties["scenario"],
        claim=properties["claim"],
        link=properties["link"],
        outcome=word,
        row=msgspec.json.decode(verdict, type=Verdict).row if verdict else None,
        remark=_remark(report) if word == "skipped" else "",
    )


def _remark(report: Any) -> str:
    return str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else str(report.longrepr)
