"""What Kata's version and configuration say of vsock, for 1.x, 2.x, and 3.x and later.

The seed's page is about 1.x: at least 1.2.0, and `use_vsock = true`. Since 2.0.0 (commit 1099a28830) that
key is gone, and the proxy with it: QEMU always has vhost-vsock. Other hypervisors have hybrid vsock, whose
host end is a Unix socket.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from harness.host.finding import Finding, Verdict
from harness.host.kata import DROP_INS_SINCE, Found, Host, Release, deduced, of_clone
from harness.host.kata_rules import UPGRADE, Rules, finding
from harness.host.kata_toml import BadToml, Configuration, Document
from harness.host.mends import as_root

_GIVE_IT = "give its file, say containerd's ConfigPath: vsock-harness doctor --kata FILE"


class Examined(NamedTuple):
    """`findings`, and whether a VM of this configuration needs the host's vhost_vsock."""

    findings: list[Finding]
    vhost: bool = False


def examine(host: Host, file: Path | None = None, release: Release | None = None) -> Examined:
    """Look at one file, or at the one that Kata on this host reads. Raises for nothing that it may find.

    :param release: what the user says it is.
    """
    found = Found(file, "") if file else host.find()
    known = release or (of_clone(found.file) if found.file else None) or host.installed(found.file)
    if found.file is None:
        return Examined([_version(known), finding("kata-config", Verdict.MISSING, _looked(found), _GIVE_IT)])
    try:
        configuration, known = _load(found.file, known)
    except (BadToml, OSError) as error:
        return Examined([*([_version(known)] if known else []), _unread(error)])
    rules = Rules(configuration, known, found, host.root, given=file is not None)
    return Examined([_version(known), *rules.findings()], rules.vhost)


def _load(file: Path, known: Release | None) -> tuple[Configuration, Release]:
    """The file with what overrides it, and its release, deduced where it isn't known.

    :raise BadToml, OSError: see `Document.load`.
    """
    alone = Configuration((Document.load(file),))
    release = known or deduced(alone)
    folder = file.resolve().parent / "config.d"  # the runtimes follow links first, too
    if release.rules == 1 or release.before(DROP_INS_SINCE) or not folder.is_dir():
        return alone, release
    drop_ins = sorted(folder.iterdir(), key=lambda path: path.name)
    configuration = Configuration((*alone.documents, *map(Document.load, drop_ins)))
    return configuration, known or deduced(configuration)


def _unread(error: BadToml | OSError) -> Finding:
    if isinstance(error, PermissionError):
        mend = as_root("vsock-harness doctor --kata")
        return finding("kata-config", Verdict.UNKNOWN, f"{error.filename}: this user may not read it", mend)
    said = str(error) if isinstance(error, BadToml) else f"{error.filename}: {error.strerror}"
    return finding("kata-config", Verdict.BROKEN, f"{said}; Kata refuses the whole configuration")


def _looked(found: Found) -> str:
    looked = f"; looked at {', '.join(map(str, found.absent))}" if found.absent else ""
    return f"no configuration: {found.why}{looked}"


def _version(release: Release | None) -> Finding:
    if release is None:
        return finding(
            "kata-version", Verdict.MISSING, "no kata-runtime and no containerd-shim-kata-v2 is installed"
        )
    seen = f"Kata Containers {release.text} ({release.source})"
    if release.vsock is None:
        return finding("kata-version", Verdict.UNKNOWN, f"{seen}; vsock needs at least 1.2.0")
    if not release.vsock:
        return finding("kata-version", Verdict.MISSING, f"{seen}; vsock came with 1.2.0", UPGRADE)
    if release.rules > 1:
        seen = f"{seen}; since 2.0 the agent is always reached over vsock: there is no use_vsock and no proxy"
    else:
        seen = f"{seen}; vsock needs at least 1.2.0"
    return finding("kata-version", Verdict.OK, seen)
