"""Programs put into a guest and run there, by a real agent; its busybox runs this machine's own tools."""

from __future__ import annotations

import contextlib
import io
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.guest.client import AgentClient
from harness.image.store import Image
from harness.link.connect import connect
from harness.model.deadline import Deadline, until
from harness.model.errors import SystemFailure, UsageError
from harness.model.link import Endpoint, Link
from harness.run import programs
from tests.unit import images
from tests.unit.agents import unix_agent
from tests.unit.hangs import HANGS

BUSYBOX = """#!/bin/sh
# chroot ROOT /PATH... runs ROOT/PATH
[ "$1" = chroot ] && { root=$2; shift 2; program=$root$1; shift; exec "$program" "$@"; }
PATH=%s:$PATH exec "$@"
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where programs go; nothing is mounted there."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, text in {"busybox": BUSYBOX % tools, "mount": "#!/bin/sh\n"}.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    monkeypatch.setattr(programs, "_BUSYBOX", str(tools / "busybox"))
    monkeypatch.setattr(programs, "ROOT", str(tmp_path / "root"))
    return tmp_path / "root"


@pytest.fixture
def image(tmp_path: Path) -> Image:
    """Programs: one that says its arguments and stays, one that ends at once."""
    texts = {
        "stays": '#!/bin/sh\necho "$@"; exec sleep 1000\n',
        "ends": "#!/bin/sh\necho oh no >&2; exit 3\n",
    }
    folder = tmp_path / "image"
    folder.mkdir()
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
        with tarfile.open(folder / f"{name}.tar", "w") as tar:
            tar.add(tmp_path / name, f"usr/bin/{name}")
    return images.image(folder, "programs")


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with unix_agent() as path:
        yield Endpoint(link=Link.VIRTIO_SERIAL, path=str(path))


def put(endpoint: Endpoint, image: Image, *names: str, **files: bytes) -> None:
    with AgentClient(connect(endpoint)) as agent:
        programs.install(agent, image, names, files)


def test_a_program_is_put_there_by_name_with_files_for_root_alone(
    root: Path, image: Image, endpoint: Endpoint
) -> None:
    put(endpoint, image, "stays", secret=b"key")
    assert (root / "usr/bin/stays").exists()
    assert not (root / "usr/bin/ends").exists()
    assert (root / "secret").read_bytes() == b"key"
    assert stat.S_IMODE((root / "secret").stat().st_mode) == 0o600


def test_an_unknown_name_is_answered_with_those_there_are(
    root: Path, image: Image, endpoint: Endpoint
) -> None:
    with pytest.raises(UsageError, match=r"no program is called 'stay'; there are: ends, stays"):
        put(endpoint, image, "stay")


def test_what_several_have_is_sent_once(root: Path, image: Image, endpoint: Endpoint) -> None:
    for name in ("stays", "ends"):
        with tarfile.open(image.path / f"{name}.tar", "a") as tar:
            library = tarfile.TarInfo("usr/lib/libc.so")
            library.size = 1 << 20
            tar.addfile(library, io.BytesIO(bytes(1 << 20)))
    archives = [image.path / f"{name}.tar" for name in ("stays", "ends")]
    with tarfile.open(fileobj=io.BytesIO(programs._merged(archives, {}))) as tar:
        assert tar.getnames() == ["usr/bin/stays", "usr/lib/libc.so", "usr/bin/ends"]
    put(endpoint, image, "stays", "ends")
    assert (root / "usr/lib/libc.so").stat().st_size == 1 << 20


def test_a_guest_that_takes_no_files_says_why(root: Path, image: Image, endpoint: Endpoint) -> None:
    root.write_text("in the way")
    with pytest.raises(SystemFailure, match="mkdir ended with code 1") as told:
        put(endpoint, image, "stays")
    assert "File exists" in told.value.detail


def test_it_runs_while_the_with_lasts(root: Path, image: Image, endpoint: Endpoint, tmp_path: Path) -> None:
    put(endpoint, image, "stays")
    log = tmp_path / "log"
    with programs.running(endpoint, ["/usr/bin/stays", "a word"], log) as container:
        alive = Path(f"/proc/{container.pid}/cmdline")
        until(lambda: b"sleep" in alive.read_bytes(), Deadline(HANGS), "the program")
    assert not alive.exists()
    assert log.read_text() == "a word\n"


def test_one_that_ends_by_itself_is_told_with_its_words(
    root: Path, image: Image, endpoint: Endpoint, tmp_path: Path
) -> None:
    put(endpoint, image, "ends")
    with pytest.raises(SystemFailure, match="/usr/bin/ends ended by itself in the guest: code 3") as told:
        with programs.running(endpoint, ["/usr/bin/ends"], tmp_path / "log") as container:
            container.wait(deadline=Deadline(HANGS))
    assert told.value.detail == "oh no\n"


def break_off(image: Image, log: Path) -> None:
    """The guest goes while a program runs in it, and something else is wrong."""
    with contextlib.ExitStack() as guest:
        endpoint = Endpoint(link=Link.VIRTIO_SERIAL, path=str(guest.enter_context(unix_agent())))
        put(endpoint, image, "stays")
        with programs.running(endpoint, ["/usr/bin/stays"], log):
            guest.close()
            raise ZeroDivisionError


def test_a_guest_that_is_gone_hides_nothing_of_what_was_wrong(
    root: Path, image: Image, tmp_path: Path
) -> None:
    with pytest.raises(ZeroDivisionError):
        break_off(image, tmp_path / "log")
