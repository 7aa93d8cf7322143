"""The house itself: layers, sizes, names that live in one place, types, lint, what must not be committed."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
LONGEST_FILE = 320
LONGEST_TESTS = 400
LONGEST_FUNCTION = 55
MOST_MEMBERS = 12

HOMES = {
    "paramiko": ("harness/lab/ssh.py",),
    "qemu": ("harness/vm/monitor.py",),
    "ruamel": ("harness/model/yaml.py",),
    "rich": ("harness/report/console.py",),
    "pytest": ("harness/plugin/",),
    "xdist": ("harness/plugin/rerun.py", "harness/plugin/rerunsession.py", "harness/plugin/rerunwork.py"),
    "execnet": ("harness/plugin/rerunsession.py", "harness/plugin/rerunuse.py"),
    "msgspec": ("harness/",),
}
"""Where each third-party name may be imported: in a file, or anywhere below a folder."""

LARGER = {"Peer": 14}
"""Classes with more public members than they should have, and how many."""

SLEEPER = "harness/model/deadline.py"


def sources(*places: str) -> list[Path]:
    found = (path for place in places for path in (ROOT / place).rglob("*.py"))
    return sorted(path for path in found if "__pycache__" not in path.parts)


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def run(*argv: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, argv)), cwd=cwd, capture_output=True, text=True, check=False)


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and full name of every absolute import, wherever it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.lineno, node.module or ""


def for_types(tree: ast.AST) -> set[int]:
    """The lines that only type checkers read."""
    blocks = (node for node in ast.walk(tree) if isinstance(node, ast.If))
    bodies = (block.body for block in blocks if ast.unparse(block.test) == "TYPE_CHECKING")
    return {line for body in bodies for line in range(body[0].lineno, (body[-1].end_lineno or 0) + 1)}


def strangers(where: str, tree: ast.AST) -> Iterator[str]:
    """Imports of what is neither the standard library's nor ours, or not in the one place it belongs."""
    agent = where.startswith("harness/agent/")
    unseen = for_types(tree)
    for line, module in imported(tree):
        top = module.split(".")[0]
        ours = top == "harness" and not agent
        if ours or top in sys.stdlib_module_names or (top == "typing_extensions" and line in unseen):
            continue
        homes = () if agent else HOMES.get(top, ())
        if not any(where == home or (home.endswith("/") and where.startswith(home)) for home in homes):
            yield f"{where}:{line}: imports {module}; allowed in: {', '.join(homes) or 'nowhere'}"


def sleeps(where: str, tree: ast.AST) -> Iterator[str]:
    """Sleeps outside the one loop that waits."""
    if where == SLEEPER:
        return
    for node in ast.walk(tree):
        called = isinstance(node, ast.Attribute) and node.attr == "sleep"
        named = isinstance(node, ast.alias) and node.name == "sleep"
        if isinstance(node, ast.Attribute | ast.alias) and (called or named):
            yield f"{where}:{node.lineno}: sleeps; wait for a fact, by model.deadline.until"


def too_long(where: str, tree: ast.Module) -> Iterator[str]:
    """Functions and classes that are too large."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or 0) - node.lineno + 1
            if lines > LONGEST_FUNCTION:
                yield f"{where}:{node.lineno}: {node.name} has {lines} lines, {LONGEST_FUNCTION} is the most"
        elif isinstance(node, ast.ClassDef):
            members = [
                item.name
                for item in node.body
                if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef) and not item.name.startswith("_")
            ]
            most = LARGER.get(node.name, MOST_MEMBERS)
            if len(members) > most:
                yield f"{where}:{node.lineno}: {node.name} has {len(members)} public members, not {most}"


def hidden_ends(where: str, tree: ast.AST) -> Iterator[str]:
    """Lifetimes that are not a `with`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == "__del__":
            yield f"{where}:{node.lineno}: __del__; lifetimes are context managers"
    for line, module in imported(tree):
        if module == "atexit":
            yield f"{where}:{line}: atexit; lifetimes are context managers"


Rule = Callable[[str, ast.Module], Iterator[str]]
LONG_FUNCTION = "def f():\n" + "    x = 1\n" * LONGEST_FUNCTION
LARGE_CLASS = "class C:\n" + "".join(f"    def m{number}(self): ...\n" for number in range(MOST_MEMBERS + 1))


@pytest.mark.parametrize("rule", [strangers, sleeps, too_long, hidden_ends])
def test_rule_holds(rule: Rule) -> None:
    found = [line for path in sources("harness") for line in rule(name(path), ast.parse(path.read_text()))]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("rule", "where", "text"),
    [
        (strangers, "harness/lab/lab.py", "def f():\n    import paramiko"),
        (strangers, "harness/vm/machine.py", "from qemu.qmp import QMPClient"),
        (strangers, "harness/cli/run.py", "import pytest"),
        (strangers, "harness/model/spec.py", "import yaml"),
        (strangers, "harness/run/tap.py", "import typing_extensions"),
        (strangers, "harness/run/tap.py", "if TYPE_CHECKING:\n    import paramiko"),
        (strangers, "harness/agent/wire.py", "import msgspec"),
        (strangers, "harness/agent/wire.py", "from harness.model.errors import HarnessError"),
        (sleeps, "harness/vm/machine.py", "import time\ntime.sleep(1)"),
        (sleeps, "harness/vm/machine.py", "import asyncio as a\nasync def f():\n    await a.sleep(1)"),
        (sleeps, "harness/vm/machine.py", "from time import sleep as wait"),
        (too_long, "harness/vm/machine.py", LONG_FUNCTION),
        (too_long, "harness/vm/machine.py", LARGE_CLASS),
        (hidden_ends, "harness/vm/machine.py", "class C:\n    def __del__(self): ..."),
        (hidden_ends, "harness/vm/machine.py", "import atexit"),
    ],
)
def test_rule_finds_what_breaks_it(rule: Rule, where: str, text: str) -> None:
    assert len(list(rule(where, ast.parse(text)))) == 1


@pytest.mark.parametrize(
    ("places", "most"), [(("harness", ".ci"), LONGEST_FILE), (("tests", "scenarios"), LONGEST_TESTS)]
)
def test_files_are_small(places: tuple[str, ...], most: int) -> None:
    lengths = {name(path): len(path.read_text().splitlines()) for path in sources(*places)}
    assert len(lengths) > 50
    found = [f"{where} has {lines} lines" for where, lines in lengths.items() if lines > most]
    assert not found, f"{most} is the most\n" + "\n".join(found)


def test_layers() -> None:
    done = run(BIN / "lint-imports", "--no-cache")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 kept, 0 broken" in done.stdout


@pytest.mark.parametrize("wrong", ["model imports vm", "a new package"])
def test_layers_that_are_broken_are_found(tmp_path: Path, wrong: str) -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    packages = re.findall(r"\w+", " ".join(contracts[0]["layers"]))
    for package in ["", *packages, *(["extra"] if wrong == "a new package" else [])]:
        (tmp_path / "harness" / package).mkdir()
        (tmp_path / "harness" / package / "__init__.py").touch()
    if wrong == "model imports vm":
        (tmp_path / "harness/model/__init__.py").write_text("import harness.vm\n")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    done = run(BIN / "lint-imports", "--no-cache", cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr


def test_ruff() -> None:
    for argv in (["check", "--no-cache"], ["format", "--check", "--no-cache"]):
        done = run(BIN / "ruff", *argv, ROOT)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("what", [[], [".ci/bootstrap.py"]], ids=["harness and tests", "bootstrap"])
def test_types(what: list[str]) -> None:
    done = run(BIN / "mypy", *what)
    assert done.returncode == 0, done.stdout + done.stderr


def committed() -> list[Path]:
    done = run("git", "ls-files", "-z")
    if done.returncode:
        pytest.skip(f"not a git checkout: {done.stderr.strip()}")
    found = (ROOT / path for path in done.stdout.split("\0") if path)
    return [path for path in found if path.is_file()]


# in pieces, so that this file does not match
FOREIGN = re.compile(
    "|".join(
        [
            r"(?<![\w}$-])/" + r"work/",
            r"(?<![\w}$-])/tmp/" + r"w/",
            r"/root/\." + r"(?!ssh)",
            r"\bpy" + r"pi\.org",
            r"python" + r"hosted\.org",
            r"\bnpm" + r"js\.(org|com)",
            r"\bcrates" + r"\.io",
            r"proxy\.go" + r"lang\.org",
            r"--(extra-)?index-" + r"url[ =]",
        ]
    )
)


def foreign(where: str, text: str) -> list[str]:
    lines = enumerate(text.splitlines(), 1)
    return [f"{where}:{number}: {line[:150]}" for number, line in lines if FOREIGN.search(line)]


def test_nothing_committed_names_a_machine_or_a_registry() -> None:
    found = []
    for path in committed():
        data = path.read_bytes()
        assert b"\0" not in data, f"{name(path)} is binary"
        found += foreign(name(path), data.decode())
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize("place", ["cd /work" + "/main", "https://py" + "pi.org/simple", "/root/" + ".pyenv"])
def test_a_machine_or_a_registry_is_found(place: str) -> None:
    assert foreign("x", f"fine\nsee {place} there\n") == [f"x:2: see {place} there"]


PIN = re.compile(r"^(?P<name>[a-z0-9][a-z0-9-]*)==(?P<version>[0-9][\w.]*)(?P<marker> ; [^\\]+)? \\$")


def pins(path: Path) -> dict[str, str]:
    """Name to version. Every line must be a pin, or a hash of the one above it."""
    found: dict[str, str] = {}
    hashed: set[str] = set()
    for line in path.read_text().splitlines():
        pin = PIN.match(line)
        if pin:
            found[pin["name"]] = pin["version"]
        else:
            assert re.match(r"^    --hash=sha256:[0-9a-f]{64}( \\)?$", line), f"{name(path)}: {line}"
            hashed.add(list(found)[-1])
    assert hashed == set(found)
    return found


def test_pins_are_names_versions_and_hashes_and_agree() -> None:
    dev = pins(ROOT / "requirements-dev.txt")
    for part in ("requirements.txt", "requirements-worker.txt"):
        found = pins(ROOT / part)
        assert found
        assert found.items() <= dev.items(), part
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    names = [re.split(r"[>=<]", entry)[0].replace(".", "-") for entry in wanted]
    assert set(names) <= set(dev)
    assert pins(ROOT / ".ci/uv.txt").keys() == {"uv"}


def test_declared_dependencies_are_those_imported() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    tops = {re.split(r"[.>=<]", entry)[0] for entry in declared}
    assert tops - {"pytest-xdist"} | {"xdist"} == set(HOMES)
