"""Hosts as the user's OpenSSH configuration knows them: `ssh -G`, the real one, and an SSH server."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path, PurePosixPath

import pytest

from harness.lab import keys, openssh
from harness.lab.address import Address, client_config
from harness.lab.keys import Keys
from harness.lab.openssh import resolved
from harness.lab.ssh import Ssh
from harness.model.errors import HostUnfit, InfrastructureError, UsageError
from tests.unit.ssh_server import listening

CONFIG = """\
Host box
  HostName 192.0.2.7
  Port 2222
  User me
  IdentityFile {folder}/key
  IdentityFile {folder}/none
  IdentitiesOnly yes
  UserKnownHostsFile {folder}/known
  GlobalKnownHostsFile /dev/null
  HostKeyAlias box-key
Host inner
  ProxyJump box
Host tunnel
  ProxyCommand nc %h %p 100%%
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    for name in ("key", "known"):
        (tmp_path / name).touch()
    (tmp_path / "config").write_text(CONFIG.format(folder=tmp_path))
    return tmp_path / "config"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return keys.ensure(tmp_path_factory.mktemp("keys"))


def test_a_name_of_the_configuration_leads_to_where_that_says(config: Path) -> None:
    found = resolved("ssh://box", config)
    assert (found.host, found.port, found.user, found.name) == ("192.0.2.7", 2222, "me", "box-key")
    assert found.keys == (config.with_name("key"),)
    assert found.only_keys
    assert found.known_hosts == (config.with_name("known"),)
    assert str(found) == "ssh://me@192.0.2.7:2222"
    assert found.by_hand == f"ssh -F {config} -p 2222 me@192.0.2.7 true"


def test_what_the_address_says_goes_before_the_configuration(config: Path) -> None:
    found = resolved("ssh://you@box:22", config)
    assert (found.user, found.port) == ("you", 22)


def test_a_jump_is_a_command_as_the_configurations_own_is(config: Path) -> None:
    assert resolved("ssh://inner:99", config).via == f"ssh -F {config} -W '[inner]:99' box"
    assert resolved("ssh://tunnel", config).via == "nc tunnel 22 100%"
    assert resolved("ssh://box", config).via == ""


def test_openssh_takes_what_is_written_for_it_as_it_was_meant(config: Path, tmp_path: Path) -> None:
    """execnet starts `ssh` itself, with a configuration in which the host has our alias."""
    for url in ("ssh://box", "ssh://tunnel"):
        address = resolved(url, config)
        ours = tmp_path / "ours"
        ours.write_text(client_config(address, "host0", tmp_path / "unused"))
        said = subprocess.run(["ssh", "-F", ours, "-G", "host0"], capture_output=True, text=True, check=True)
        again = openssh.address("host0", openssh.settings(said.stdout), config)
        assert again == address


def test_a_configuration_that_openssh_refuses_is_named(config: Path) -> None:
    config.write_text("Hots box\n")
    with pytest.raises(UsageError, match=r"config: line 1: Bad configuration option: hots"):
        resolved("ssh://box", config)


def test_without_a_client_the_host_is_unfit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(HostUnfit, match="ssh is not installed"):
        resolved("ssh://box")


def test_a_configuration_that_takes_for_ever_is_given_up(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.write_text('Match exec "sleep 5"\n  User me\n')
    monkeypatch.setattr(openssh, "_SECONDS", 0.2)
    with pytest.raises(InfrastructureError, match="no answer in 0 s"):
        resolved("ssh://box", config)


@pytest.mark.parametrize("port", [22, 2222])
def test_openssh_finds_a_pinned_key_under_the_name_that_it_looks_for(port: int, tmp_path: Path) -> None:
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGNhbm5lZCBrZXkgb2YgYSB0ZXN0IG9mIG91cnMhISEh"
    client_config(Address(host="box", port=port, host_key=key), "host0", tmp_path / "known")
    name = "box" if port == 22 else f"[box]:{port}"
    found = subprocess.run(
        ["ssh-keygen", "-F", name, "-f", tmp_path / "known"], capture_output=True, text=True, check=False
    )
    assert key in found.stdout


def server_config(folder: Path, pair: Keys, port: int, *more: str) -> Path:
    (folder / "known").write_text(f"[127.0.0.1]:{port} {pair.host_public}\nalias {pair.host_public}\n")
    lines = ["Host box", "HostName 127.0.0.1", f"Port {port}", f"IdentityFile {pair.user}"]
    lines += [f"UserKnownHostsFile {folder}/known", *more]
    (folder / "config").write_text("\n".join(lines) + "\n")
    return folder / "config"


@pytest.mark.parametrize(
    "more", [[], ["HostKeyAlias alias"], ["HostName 192.0.2.1", "HostKeyAlias alias", "ProxyCommand {via}"]]
)
def test_our_connection_goes_the_same_way(pair: Keys, tmp_path: Path, more: list[str]) -> None:
    with listening(pair) as port:
        relay = tmp_path / "relay.py"
        relay.write_text(RELAY)
        via = f"python3 {relay} {port}"
        config = server_config(tmp_path, pair, port, *(word.format(via=via) for word in more))
        with Ssh.connect(resolved("ssh://box", config)) as ssh:
            assert ssh.run(["echo", "here"]) == "here\n"


RELAY = """\
import os, socket, sys, threading
peer = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
def up():
    while data := os.read(0, 65536):
        peer.sendall(data)
    peer.shutdown(socket.SHUT_WR)
threading.Thread(target=up, daemon=True).start()
while data := peer.recv(65536):
    os.write(1, data)
"""


def test_a_host_whose_key_is_not_known_is_refused_with_what_to_do(pair: Keys, tmp_path: Path) -> None:
    with listening(pair) as port:
        config = server_config(tmp_path, pair, port)
        (tmp_path / "known").write_text("")
        with pytest.raises(InfrastructureError, match="not found in known_hosts") as caught:
            Ssh.connect(resolved("ssh://box", config))
    assert (
        caught.value.hint == f"try: ssh -F {config} -p {port} {os.environ.get('USER', 'root')}@127.0.0.1 true"
    )


def tree(folder: Path) -> Path:
    (folder / "image" / "bin").mkdir(parents=True)
    (folder / "image" / "bin" / "big").write_bytes(os.urandom(3 << 20))
    (folder / "image" / "bin" / "run").write_text("#!/bin/sh\n")
    (folder / "image" / "bin" / "run").chmod(0o755)
    (folder / "image" / "link").symlink_to("bin/run")
    return folder / "image"


def test_a_folder_goes_there_whole_and_once(pair: Keys, tmp_path: Path) -> None:
    source, target = tree(tmp_path), tmp_path / "there" / "a b" / "id"
    with (
        listening(pair) as port,
        Ssh.connect(resolved("ssh://box", server_config(tmp_path, pair, port))) as ssh,
    ):
        assert ssh.place(source, PurePosixPath(target))
        assert not ssh.place(source, PurePosixPath(target))
    assert (target / "bin/big").read_bytes() == (source / "bin/big").read_bytes()
    assert os.access(target / "bin/run", os.X_OK)
    assert (target / "link").readlink() == Path("bin/run")
    assert [path.name for path in target.parent.iterdir()] == ["id"]


def test_where_it_does_not_fit_nothing_is_left_and_the_reason_told(pair: Keys, tmp_path: Path) -> None:
    source = tree(tmp_path)
    (tmp_path / "file").touch()
    with (
        listening(pair) as port,
        Ssh.connect(resolved("ssh://box", server_config(tmp_path, pair, port))) as ssh,
        pytest.raises(InfrastructureError, match="Not a directory"),
    ):
        ssh.place(source, PurePosixPath(tmp_path / "file" / "id"))
