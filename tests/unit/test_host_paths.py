from __future__ import annotations

import socket
from pathlib import Path

import pytest

from harness.host import paths
from harness.host.runfolder import RunFolder
from harness.model.errors import InfrastructureError, UsageError


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"XDG_CACHE_HOME": "/c", "HOME": "/h"}, "/c/vsock-harness"),
        ({"XDG_CACHE_HOME": "relative", "HOME": "/h"}, "/h/.cache/vsock-harness"),
        ({"HOME": "/h"}, "/h/.cache/vsock-harness"),
    ],
)
def test_cache_root(environ: dict[str, str], expected: str) -> None:
    assert paths.cache_root(environ) == Path(expected)


def test_no_home_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="XDG_CACHE_HOME"):
        paths.cache_root({"PATH": "/bin"})


def test_cache_folder_is_made_and_private(tmp_path: Path) -> None:
    folder = paths.Cache(tmp_path / "a" / "b").folder("images")
    assert folder.is_dir()
    assert folder.stat().st_mode & 0o077 == 0


def test_cache_folder_that_cannot_be_made_says_where(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InfrastructureError, match=str(tmp_path)):
        paths.Cache(tmp_path / "file").folder("images")


def test_socket_path_holds_the_limit_exactly() -> None:
    folder = Path("/" + "d" * 99)
    longest = paths.socket_path(folder, "123456")
    assert len(str(longest)) == 107
    with pytest.raises(InfrastructureError, match="108 bytes, 107 is the most"):
        paths.socket_path(folder, "1234567")


def test_socket_path_counts_bytes_not_letters() -> None:
    with pytest.raises(InfrastructureError):
        paths.socket_path(Path("/" + "ü" * 60), "x")


@pytest.mark.parametrize("name", ["", "a/b", "..", "."])
def test_socket_name_must_be_plain(name: str) -> None:
    with pytest.raises(UsageError):
        paths.socket_path(Path("/tmp"), name)


def test_long_places_are_left_out() -> None:
    long = "/x" + "y" * 200
    found = list(paths.run_bases({"TMPDIR": long, "XDG_RUNTIME_DIR": long}, uid=7))
    assert found == [Path("/tmp/vsock-harness-7"), Path("/var/tmp/vsock-harness-7")]


def test_a_chosen_short_place_comes_first() -> None:
    found = list(paths.run_bases({"TMPDIR": "/scratch", "XDG_RUNTIME_DIR": "/run/user/7"}, uid=7))
    assert [str(path.parent) for path in found] == ["/scratch", "/tmp", "/run/user/7", "/var/tmp"]


def test_every_place_leaves_room_for_a_socket() -> None:
    for base in paths.run_bases({"TMPDIR": "/" + "t" * 27}, uid=4_000_000_000):
        paths.socket_path(base / "12345678", "n" * 49)


@pytest.mark.parametrize("spoil", ["link", "open", "file"])
def test_a_place_that_is_not_ours_alone_is_refused(
    tmp_path: Path, spoil: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = tmp_path / "bad", tmp_path / "good"
    if spoil == "link":
        (tmp_path / "target").mkdir(mode=0o700)
        bad.symlink_to(tmp_path / "target")
    elif spoil == "open":
        bad.mkdir()
        bad.chmod(0o777)
    else:
        bad.touch()
    monkeypatch.setattr(paths, "run_bases", lambda environ=None: iter([bad, good]))
    assert paths.private_base() == good
    monkeypatch.setattr(paths, "run_bases", lambda environ=None: iter([bad]))
    with pytest.raises(InfrastructureError, match="no place") as caught:
        paths.private_base()
    assert str(bad) in caught.value.detail


def test_sockets_work_from_a_deep_checkout_with_long_temp_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path
    for _ in range(8):
        deep /= "a-rather-long-name-of-a-folder"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    for name in ("TMPDIR", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(deep))
    with RunFolder.create() as folder, socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder.socket("a-name-of-forty-letters-for-a-long-socket")))
        assert (folder.path / "a-name-of-forty-letters-for-a-long-socket").is_socket()
    assert not folder.path.exists()
