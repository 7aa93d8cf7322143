"""What each section of Kata's configuration means for vsock, in 1.x, 2.x, and 3.x and later.

What each runtime does was read in its sources: `pkg/katautils/config.go` and `virtcontainers/*.go` of Go,
`libs/kata-types` and `runtime-rs/crates/hypervisor` of Rust.
"""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from harness.host.finding import Finding, Verdict
from harness.host.kata import VARIABLE, Found, Release
from harness.host.kata_toml import Configuration, Edit
from harness.host.mends import as_root

VHOST = {"qemu": "QEMU", "acrn": "ACRN", "stratovirt": "StratoVirt"}
HYBRID = {
    "clh": "Cloud Hypervisor",
    "cloud-hypervisor": "Cloud Hypervisor",
    "firecracker": "Firecracker",
    "dragonball": "Dragonball",
    "openvmm": "OpenVMM",
}
REMOTE = "remote"

NEEDED = "Kata's agent over vsock"
DEFAULT_PROXY = "/usr/libexec/kata-containers/kata-proxy"
PACKAGED = "usr/share/defaults"
LOCAL = "etc/kata-containers/configuration.toml"

UPGRADE = "install Kata Containers 2.0 or later: https://github.com/kata-containers/kata-containers/releases"


def finding(ability: str, verdict: Verdict, seen: str, mend: str = "") -> Finding:
    """A finding about Kata."""
    return Finding(ability, verdict, seen, NEEDED, mend)


@dataclass(frozen=True)
class Rules:
    """The rules of one release on one configuration."""

    configuration: Configuration
    release: Release
    found: Found
    root: Path
    given: bool

    def findings(self) -> list[Finding]:
        """``kata-config``, then one for each hypervisor and proxy that the file has."""
        names = self.configuration.names("hypervisor")
        hypervisors = [self._hypervisor(name) for name in names]
        refused = any(one.verdict is Verdict.BROKEN for one in hypervisors)  # so nothing starts at all
        named = [] if refused else self.configuration.names("proxy")
        proxies = [self._proxy(name, hypervisors) for name in named]
        return [self._config(names), *hypervisors, *proxies]

    @property
    def vhost(self) -> bool:
        """Whether a pod needs the host's vhost_vsock.

        1.x refuses Firecracker without its node, too, although that doesn't use it.
        """
        used = [name for name in self.configuration.names("hypervisor") if self._chosen in {"", name}]
        return any(name in VHOST or (name == "firecracker" and self.release.rules == 1) for name in used)

    def _config(self, names: list[str]) -> Finding:
        """Which file, which others, and whether it says which hypervisor is meant."""
        main, *drop_ins = self.configuration.documents
        seen = str(main.path)
        if drop_ins:
            seen += f", then {', '.join(str(one.path) for one in drop_ins)}"
        if not self.given:
            seen += f" ({self.found.why})"
        if self.found.absent:
            seen += f"; not there: {', '.join(map(str, self.found.absent))}"
        if self.found.others:
            seen += f"; there too, read by `doctor --kata FILE`: {', '.join(map(str, self.found.others))}"
        refused = self._refused_variable()
        chosen = self._chosen
        if refused:
            return finding("kata-config", Verdict.BROKEN, f"{refused}; {seen}", f"unset {VARIABLE}")
        if chosen and chosen not in names:
            setting = self.configuration.setting("runtime", "hypervisor_name") or main
            place = setting.at("runtime", "hypervisor_name")
            allowed = f"the file has {', '.join(names)}" if names else "the file has none"
            wrong = f"{place}: hypervisor_name = {chosen!r}, but there is no [hypervisor.{chosen}]; {allowed}"
            return finding("kata-config", Verdict.BROKEN, f"{wrong}; {seen}")
        if not self._rust and len(names) > 1:
            several = f"[hypervisor.*] for {', '.join(names)}: the Go runtime takes any one of them, keep one"
            return finding("kata-config", Verdict.BROKEN, f"{several}; {seen}")
        if not names:
            none = "no [hypervisor.*]: the runtime takes the one that it was built for"
            return finding("kata-config", Verdict.UNKNOWN, f"{none}; {seen}")
        return finding("kata-config", Verdict.OK, seen)

    def _refused_variable(self) -> str:
        """Since 4.0.0 the variable may only name a file that would be found without it."""
        if self.found.default or self.release.number is None or self.release.before((4, 0, 0)):
            return ""
        return f"{VARIABLE} is refused since 4.0.0, unless it names one of the default places"

    def _hypervisor(self, name: str) -> Finding:
        ability, place = f"kata-{name}", self._place("hypervisor", name)
        if not isinstance(self.configuration.get("hypervisor", name), dict):
            wrong = f"{place}: hypervisor.{name} must be a table: [hypervisor.{name}]"
            return finding(ability, Verdict.BROKEN, wrong)
        if name not in {*VHOST, *HYBRID, REMOTE}:
            known = ", ".join(sorted({*VHOST, *HYBRID, REMOTE}))
            return finding(
                ability, Verdict.UNKNOWN, f"{place}: [hypervisor.{name}] is none that is known: {known}"
            )
        if self.release.rules == 0:
            seen = f"{place}: [hypervisor.{name}]; what it means depends on Kata's version"
            return finding(ability, Verdict.UNKNOWN, seen)
        return (
            self._of_1(name, ability, place)
            if self.release.rules == 1
            else self._since_2(name, ability, place)
        )

    def _of_1(self, name: str, ability: str, place: str) -> Finding:
        value = self.configuration.get("hypervisor", name, "use_vsock")
        if self.release.vsock is False:
            seen = f"{place}: a serial port behind kata-proxy; use_vsock came with 1.2.0"
            return finding(ability, Verdict.MISSING, seen, UPGRADE)
        if value is not None and not isinstance(value, bool):
            return self._no_switch(name, value)
        if name in HYBRID:
            seen = f"{place}: {HYBRID[name]}, {_HYBRID_VSOCK}"
            if name == "firecracker":
                seen += ", yet 1.x refuses it without /dev/vhost-vsock"
            if value is False:
                seen += "; use_vsock = false is ignored"
            return finding(ability, Verdict.OK, seen)
        if name != "qemu":
            seen = f"{place}: Kata 1.x has no vsock for [hypervisor.{name}]: a serial port behind kata-proxy"
            return finding(ability, Verdict.MISSING, seen, UPGRADE)
        if value:
            where = self._place("hypervisor", name, "use_vsock")
            fallback = "where /dev/vhost-vsock is absent it falls back to a serial port, with a warning only"
            return finding(
                ability, Verdict.OK, f"{where}: use_vsock = true: QEMU, vhost-vsock, no proxy; {fallback}"
            )
        return self._off(name, value)

    def _off(self, name: str, value: bool | None) -> Finding:
        """use_vsock is false, commented out or absent: all three mean false."""
        main, keys = self.configuration.main, ("hypervisor", name, "use_vsock")
        line = main.commented(*keys)
        if value is False:
            seen = f"{main.at(*keys)}: use_vsock = false"
        elif line:
            seen = f"{main.path}:{line}: use_vsock is commented out, and its default is false"
        else:
            seen = f"{self._place(*keys[:-1])}: no use_vsock, and its default is false"
        seen += ": QEMU with a serial port behind kata-proxy"
        return finding(f"kata-{name}", Verdict.MISSING, seen, self._edit(main.switched_on(*keys)))

    def _no_switch(self, name: str, value: object) -> Finding:
        main, keys = self.configuration.main, ("hypervisor", name, "use_vsock")
        shown = repr(value).replace("'", '"') if isinstance(value, str) else value
        kind = {str: "a string", int: "a number", float: "a number"}.get(type(value), "no boolean")
        seen = (
            f"{main.at(*keys)}: use_vsock = {shown} is {kind}; true and false are allowed, "
            "and Kata refuses the whole configuration"
        )
        return finding(f"kata-{name}", Verdict.BROKEN, seen, self._edit(main.switched_on(*keys)))

    def _since_2(self, name: str, ability: str, place: str) -> Finding:
        setting = self.configuration.setting("hypervisor", name, "use_vsock")
        left = ""
        if setting:
            where = setting.at("hypervisor", name, "use_vsock")
            if setting is not self.configuration.main and not self._rust:
                seen = (
                    f"{where}: use_vsock is unknown since 2.0, and Kata refuses a drop-in with an unknown key"
                )
                line = setting.line("hypervisor", name, "use_vsock")
                return finding(ability, Verdict.BROKEN, seen, _delete(setting.path, line) if line else "")
            left = f"; use_vsock at {where} is ignored since 2.0, and may go"
        if name == REMOTE:
            seen = f"{place}: the VM is elsewhere, its agent is reached over the tunnel of a peer pod"
            return finding(ability, Verdict.NOT_NEEDED, seen + left)
        if name in HYBRID:
            return finding(ability, Verdict.OK, f"{place}: {HYBRID[name]}, {_HYBRID_VSOCK}{left}")
        seen = f"{place}: {VHOST[name]}, always vhost-vsock; without /dev/vhost-vsock no pod starts"
        return finding(ability, Verdict.OK, seen + left)

    def _proxy(self, name: str, hypervisors: list[Finding]) -> Finding:
        """A proxy in the file starts only where 1.x has no vsock."""
        place, ability = self._place("proxy", name), "kata-proxy"
        path = self.configuration.get("proxy", name, "path") or DEFAULT_PROXY
        seen = f"{place}: [proxy.{name}] {path}"
        if self.release.rules == 0:
            return finding(ability, Verdict.UNKNOWN, f"{seen}; what it means depends on Kata's version")
        if self.release.rules > 1:
            return finding(ability, Verdict.NOT_NEEDED, f"{seen} is ignored since 2.0, and may go")
        if all(one.verdict is Verdict.OK for one in hypervisors):
            seen += " is not started with vsock"
            if self.configuration.get("hypervisor", "qemu") is not None:
                seen += "; leave it, to fall back to a serial port needs it"
            return finding(ability, Verdict.NOT_NEEDED, seen)
        return finding(
            ability, Verdict.OK, f"{seen}: each pod has one, which shares its serial port among clients"
        )

    @property
    def _rust(self) -> bool:
        return self.configuration.get("runtime", "hypervisor_name") is not None

    @property
    def _chosen(self) -> str:
        """The hypervisor that the Rust runtime takes; "" where nothing says it, as in a template."""
        name = str(self.configuration.get("runtime", "hypervisor_name") or "")
        return "" if name.startswith("@") else name

    def _place(self, *keys: str) -> str:
        setting = self.configuration.setting(*keys)
        return setting.at(*keys) if setting else str(self.configuration.main.path)

    def _edit(self, edit: Edit | None) -> str:
        """The edit as a command; of a package's file, a copy is edited where Kata looks first."""
        if edit is None:
            return ""
        path = self.configuration.main.path
        if not self.given and path.is_relative_to(self.root / PACKAGED):
            local = self.root / LOCAL
            copy = as_root(f"install -D -m 0644 {shlex.quote(str(path))} {shlex.quote(str(local))}")
            return f"{copy} && {as_root(edit.command(local))}"
        return _run(edit.command(path.resolve()), path)


_HYBRID_VSOCK = (
    "hybrid vsock: the host's end is a Unix socket that takes CONNECT PORT; it uses no vhost_vsock"
)


def _delete(path: Path, line: int) -> str:
    return _run(f"sed -i {shlex.quote(f'{line}{{/use_vsock/d}}')} {shlex.quote(str(path))}", path)


def _run(command: str, path: Path) -> str:
    """As root only where this user may not write the file."""
    return (
        command
        if os.access(path, os.W_OK) and os.access(path.resolve().parent, os.W_OK)
        else as_root(command)
    )
