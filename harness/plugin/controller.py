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
from harness.plugin import hosts, options, versions
from harness.plugin.bench import RESULTS, Setting
from harness.plugin.collect import scenario_files
from harness.report import console
from harness.report.progress import Lines

HEADER = pytest.StashKey[list[str]]()
REMOTES = pytest.StashKey[list[deploy.Remote]]()
NOTES = pytest.StashKey[list[str]]()


@contextlib.contextmanager
def around(config: pytest.Config) -> Iterator[None]:
    """Around the whole run: check all scenarios, then bring hosts up; afterwards bring evidence home.

    :raise pytest.UsageError: for anything that keeps the run from starting; pytest exits with 4.
    """
    config.stash[NOTES], config.stash[REMOTES], config.stash[HEADER] = [], [], []
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
    options.proxy(config)
    results = _results_folder(Path(config.invocation_params.dir, config.option.vsock_results))
    config.stash[RESULTS] = str(results)
    config.option.xmlpath = config.option.xmlpath or str(results / "junit.xml")
    progress = Lines()
    store = Store(cache_root())
    with contextlib.ExitStack() as stack:
        if wanted[0].startswith("ssh://"):
            folder = stack.enter_context(RunFolder.create())
            given = [parse(word) for word in wanted]
            remotes = stack.enter_context(hosts.addresses(given, store, folder, progress))
            header = [f"host: {', '.join(wanted)}"]
        else:
            choice = hosts.choose(wanted[0], store, progress)
            header = [f"host: {choice.kind} ({choice.reason})"]
            remotes = []
            if choice.kind == "lab":
                folder = stack.enter_context(RunFolder.create())
                memory = config.option.vsock_lab_memory
                wish = hosts.LabWish(count=_asked(config), memory_mib=memory, items=items)
                remotes, which = stack.enter_context(hosts.labs(wish, store, folder, results, progress))
                header.append(f"lab: {which}")
            else:
                for name in ("qemu", "pod", "proxy"):
                    store.get(name, progress)
        versions.write(store, results / "versions.json")
        config.stash[HEADER] = [*header, f"results: {_shown(results)}"]
        if remotes:
            _distribute(config, remotes)
            config.stash[REMOTES] = remotes
        try:
            yield
        finally:
            config.stash[NOTES] += hosts.bring_home(remotes, results)


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


def _distribute(config: pytest.Config, remotes: list[deploy.Remote]) -> None:
    """Send what the arguments name to every host, and make xdist start a worker on each."""
    sent = f"sent-{secrets.token_hex(4)}"
    there = [_send(config, argument, sent, remotes) for argument in config.args]
    # xdist gives its workers the command line as it was typed, with paths that mean nothing there
    arguments = tuple(there + _worker_options(config.option))
    config.invocation_params = dataclasses.replace(config.invocation_params, args=arguments)
    option = config.option
    # with -n and remote hosts, the workers are shared out evenly
    per_host = max(1, (_asked(config) or 0) // len(remotes))
    option.tx = [f"{per_host}*{remote.gateway}" for remote in remotes]
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
    words += [f"--proxy={option.vsock_proxy}"] if option.vsock_proxy else []
    words += ["--strict-host"] if option.vsock_strict else []
    words += ["--runxfail"] if option.runxfail else []
    return words + (["-" + "v" * option.verbose] if option.verbose > 0 else [])


def _send(config: pytest.Config, argument: str, sent: str, remotes: list[deploy.Remote]) -> str:
    """Push the file or folder that `argument` names; the argument as it reads over there.

    The names there are as they are here, below a folder that nothing here is called, so that node ids agree.
    """
    name, *rest = argument.split("::")
    path = Path(config.invocation_params.dir, name).resolve()
    inside = path.relative_to(config.rootpath) if path.is_relative_to(config.rootpath) else Path(path.name)
    base, files = (path, _files(path)) if path.is_dir() else (path.parent, [Path(path.name)])
    target = inside if path.is_dir() else inside.parent
    for remote in remotes:
        root = remote.layout.work / sent
        remote.ssh.push(base, root / PurePosixPath(target), files, only=False)
        remote.ssh.run(["touch", str(root / "pytest.ini")])
    return "::".join([f"{sent}/{inside}", *rest])


def _files(folder: Path) -> list[Path]:
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(
        p for p in found if p.suffix != ".pyc" and not any(part.startswith(".") for part in p.parts)
    )


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker where it is (a hook of pytest-xdist)."""
    remote = next(
        (r for r in node.config.stash[REMOTES] if f"ssh={r.alias}//" in str(node.gateway.spec) + "//"), None
    )
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


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """The table, and what went wrong with the evidence."""
    rows: list[console.Line] = []
    for word, reports in terminalreporter.stats.items():
        rows += [row for report in reports if (row := _row(word, report))]
    if rows:
        terminalreporter.write_sep("=", "claims and links")
        terminalreporter.write_line(console.table(rows, terminalreporter.isatty))
    for note in config.stash.get(NOTES, []):
        terminalreporter.write_line(note)


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
