"""Which Kata Containers is here, and which configuration it reads.

Facts from its sources: `GetDefaultConfigFilePaths` and `loadRuntimeConfig` of the Go runtime,
`DEFAULT_RUNTIME_CONFIGURATIONS` and `load_config` of the Rust runtime (its own folder since 3.3.0), the
Makefiles' ``SYSCONFDIR`` and ``DEFAULTSDIR``, kata-deploy's ``/opt/kata``.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from harness.host import kernel
from harness.host.asking import ask
from harness.host.kata_toml import Configuration, Document, Keys

GO_PATHS = (
    "/etc/kata-containers/configuration.toml",
    "/usr/share/defaults/kata-containers/configuration.toml",
    "/opt/kata/share/defaults/kata-containers/configuration.toml",
)
RUST_PATHS = (
    "/etc/kata-containers/runtime-rs/configuration.toml",
    "/usr/share/defaults/kata-containers/runtime-rs/configuration.toml",
    "/opt/kata/share/defaults/kata-containers/runtime-rs/configuration.toml",
)
PROGRAMS = ("kata-runtime", "containerd-shim-kata-v2")
FOLDERS = ("/usr/local/bin", "/usr/bin", "/opt/kata/bin", "/opt/kata/runtime-rs/bin")

VARIABLE = "KATA_CONF_FILE"

DROP_INS_SINCE = (2, 5, 0)
VSOCK_SINCE = (1, 2, 0)

_VERSION = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?(-[\w.]+)?")
_SAID = re.compile(r"(?:\bversion:|^kata-runtime\s*:)\s*(\d+\.\d+[\w.+-]*)", re.MULTILINE)
_STILL_1 = ("-alpha0", "-alpha1", "-alpha2")
"""Of 2.0.0: use_vsock and the proxy went with 2.0.0-alpha3 (commit 1099a28830)."""


class Release(NamedTuple):
    """A release of Kata, as far as it is known.

    `rules` is the generation whose rules hold for vsock: 1, 2 or 3 (and later), 0 if nothing tells. `number`
    is None where it was deduced. `source` says who said so. `vsock` is whether it can have vsock at all, as
    releases since 1.2.0 can; None if that is unknown.
    """

    rules: int
    number: tuple[int, int, int] | None
    text: str
    source: str
    vsock: bool | None

    @classmethod
    def parse(cls, text: str, source: str) -> Release | None:
        """Of ``1.12.0``, ``2.1-alpha0``, ``3.2``; None for anything else."""
        match = _VERSION.fullmatch(text.strip())
        if match is None:
            return None
        number = int(match[1]), int(match[2]), int(match[3] or 0)
        rules = min(number[0], 3)
        if number == (2, 0, 0) and (match[4] or "").startswith(_STILL_1):
            rules = 1
        return cls(rules, number, text.strip(), source, number >= VSOCK_SINCE)

    def before(self, number: tuple[int, int, int]) -> bool:
        """Whether it is known to be older."""
        return self.number is not None and self.number < number


class Found(NamedTuple):
    """The configuration that Kata reads: `why` it is this one, what was `absent` before it, `others`
    behind it.
    `file` is None if there is none, or if what names it is wrong; then `why` says so. `default` is whether it
    is in one of the places that Kata looks at by itself.
    """

    file: Path | None
    why: str
    absent: tuple[Path, ...] = ()
    others: tuple[Path, ...] = ()
    default: bool = True


@dataclass(frozen=True)
class Host:
    """Where to look. `root` is "/", and `ask` runs programs, but in tests."""

    environment: Mapping[str, str]
    root: Path = Path("/")
    ask: Callable[[Sequence[str]], str] = ask

    def find(self) -> Found:
        """The file that Kata reads, unless containerd's ``ConfigPath`` (not looked at) names another."""
        paths = dict.fromkeys([*self._asked_paths(), *GO_PATHS, *RUST_PATHS])
        places = [self._under(path) for path in paths]
        named = self.environment.get(VARIABLE)
        if named:
            file, why = Path(named), f"{VARIABLE} names {named}"
            default = file.resolve() in [place.resolve() for place in places]
            return Found(file if _exists(file) else None, why, default=default)
        there = [place for place in places if _exists(place)]
        if not there:
            return Found(None, "none of the places has one", tuple(places))
        absent = tuple(places[: places.index(there[0])])
        return Found(there[0], "the first that exists", absent, tuple(there[1:]))

    def installed(self, file: Path | None = None) -> Release | None:
        """What an installed Kata says of itself; the Rust runtime's first where `file` is of its folder."""
        rust = file is not None and "runtime-rs" in file.parts
        for program in sorted(self._programs(), key=lambda path: ("runtime-rs" in path.parts) != rust):
            with contextlib.suppress(OSError, subprocess.SubprocessError):
                said = _SAID.search(self.ask([str(program), "--version"]))
                release = Release.parse(said[1], f"{program} --version") if said else None
                if release:
                    return release
        return None

    def _asked_paths(self) -> list[str]:
        """What kata-runtime itself says of where it looks; the same option since 1.0."""
        for program in self._programs():
            if program.name == "kata-runtime":
                with contextlib.suppress(OSError, subprocess.SubprocessError):
                    said = self.ask([str(program), "--kata-show-default-config-paths"])
                    return [line.strip() for line in said.splitlines() if line.startswith("/")]
        return []

    def _programs(self) -> list[Path]:
        folders = [*filter(None, self.environment.get("PATH", "").split(":")), *FOLDERS]
        places = [self._under(folder) / name for name in PROGRAMS for folder in dict.fromkeys(folders)]
        return [place for place in places if os.access(place, os.X_OK) and place.is_file()]

    def _under(self, path: str) -> Path:
        return self.root / path.lstrip("/")


def _exists(file: Path) -> bool:
    """What may not be looked at counts as there: to read it says what is wrong."""
    try:
        file.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def of_clone(file: Path) -> Release | None:
    """The VERSION of the source tree that a file is in: a clone of kata-containers, or of 1.x's runtime."""
    for folder in file.resolve().parents:
        if (folder / "src/runtime").is_dir() or (folder / "virtcontainers").is_dir():
            return Release.parse(kernel.read(folder / "VERSION"), f"VERSION of the source tree {folder}")
    return None


_ONLY_1: tuple[Keys, ...] = (("proxy",), ("shim",), ("runtime", "enable_agent_pidns"))
_ONLY_3: tuple[Keys, ...] = (
    ("runtime", "hypervisor_name"),
    ("hypervisor", "dragonball"),
    ("hypervisor", "cloud-hypervisor"),
    ("hypervisor", "stratovirt"),
    ("hypervisor", "remote"),
    ("hypervisor", "openvmm"),
)


def deduced(configuration: Configuration) -> Release:
    """The generation that the keys tell of, as they are in the templates of 1.0.0 to 4.1.0.

    Only the Rust runtime, so 3.0 and later, has runtime.hypervisor_name. Each template since 2.0.0 has
    debug_console_enabled, be it commented out. Only 1.x has [proxy.*], [shim.*] and, since 1.2.0, use_vsock,
    be it commented out. What an upgraded file has kept of older ones counts less than what only newer ones
    have.
    """
    main = configuration.main
    for keys in _ONLY_3:
        setting = configuration.setting(*keys)
        if setting:
            return _because(3, "3.0 or later", setting.at(*keys), ".".join(keys))
    line = _line_of(main, "debug_console_enabled")
    if line:
        return _because(2, "2.0 or later", f"{main.path}:{line}", "debug_console_enabled")
    line = _line_of(main, "use_vsock")
    if line:
        return _because(1, "1.x, since 1.2.0", f"{main.path}:{line}", "use_vsock")
    for keys in _ONLY_1:
        value = main.get(*keys)
        if value is not None:
            full = (*keys, next(iter(value))) if isinstance(value, dict) and value else keys
            newer = {"firecracker", "clh", "acrn"} & set(configuration.names("hypervisor"))  # 1.5, 1.10
            return _because(1, "1.x", main.at(*full), ".".join(full), vsock=True if newer else None)
    return Release(
        0, None, "unknown", "nothing is installed, no key tells: give --kata-version VERSION", None
    )


def _because(rules: int, text: str, place: str, key: str, *, vsock: bool | None = True) -> Release:
    source = f"deduced from {key} at {place}; --kata-version VERSION says it for sure"
    return Release(rules, None, text, source, vsock)


def _line_of(document: Document, key: str) -> int:
    """The first line that sets a key, or would if it were no comment."""
    setting = re.compile(rf"^\s*#?\s*{key}\s*=")
    lines = enumerate(document.text.split("\n"), 1)
    return next((number for number, line in lines if setting.match(line)), 0)
