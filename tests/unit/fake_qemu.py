"""A QEMU for tests: speaks QMP on the descriptor of ``-chardev socket,id=qmp,fd=N``, misbehaves on demand.

Run as a program. What it does wrong is in the environment variable FAKE_QEMU, blank-separated:
exits-at-once, silent, bad-device, deaf, obeys-sigterm, crash-on-quit, refuses-unplug, old.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
from typing import Any

Arguments = dict[str, Any]


class Refused(Exception):
    """Answered to the client as an error."""


class FakeQemu:
    def __init__(self, qmp: socket.socket, behaviour: list[str], console: str = os.devnull) -> None:
        self.qmp = qmp
        self.behaviour = behaviour
        self.console = console
        self.status = "running"
        self.fds: list[int] = []
        self.names: dict[str, int] = {}
        self.chardevs: list[str] = []
        self.asked = 0

    def send(self, **message: object) -> None:
        self.qmp.sendall(json.dumps(message).encode() + b"\r\n")

    def event(self, name: str, **data: object) -> None:
        self.send(event=name, data=data, timestamp={"seconds": 1, "microseconds": 2})

    def print_console(self, text: str) -> None:
        with open(self.console, "a") as file:
            file.write(text)

    def serve(self) -> None:
        """Until the client closes or a command ends it."""
        if "silent" in self.behaviour:
            signal.pause()
        version = {"qemu": {"major": 10, "minor": 0, "micro": 0}, "package": "fake"}
        self.send(QMP={"version": version, "capabilities": []})
        text = ""
        while data := self.receive():
            text += data
            while text := text.lstrip():
                try:
                    request, end = json.JSONDecoder().raw_decode(text)
                except ValueError:
                    break
                text = text[end:]
                self.answer(request)

    def receive(self) -> str:
        data, fds, _, _ = socket.recv_fds(self.qmp, 65536, 4)
        self.fds += fds
        return data.decode()

    def answer(self, request: dict[str, Any]) -> None:
        name = request["execute"].replace("-", "_")
        arguments = request.get("arguments", {})
        id_ = {"id": request["id"]} if "id" in request else {}
        if name == "x_mute" or (name == "quit" and "deaf" in self.behaviour):
            return
        if name == "quit":
            self.quit(id_)
        method = getattr(self, name, None)
        try:
            if method is None:
                raise Refused(f"The command {request['execute']} has not been found")
            self.send(**{"return": method(arguments) or {}}, **id_)
        except Refused as error:
            kind = "CommandNotFound" if "has not been found" in str(error) else "GenericError"
            self.send(error={"class": kind, "desc": str(error)}, **id_)

    def quit(self, id_: Arguments) -> None:
        if "crash-on-quit" in self.behaviour:
            os.kill(os.getpid(), signal.SIGSEGV)
        self.send(**{"return": {}}, **id_)
        self.event("SHUTDOWN", guest=False, reason="host-qmp-quit")
        sys.exit(0)

    def qmp_capabilities(self, arguments: Arguments) -> None:
        pass

    def query_status(self, arguments: Arguments) -> object:
        if "bad-device" in self.behaviour:
            sys.exit("qemu-system-x86_64: -device vhost-vsock-pci: Address already in use")
        return {"status": self.status, "running": self.status == "running"}

    def getfd(self, arguments: Arguments) -> None:
        if not self.fds:
            raise Refused("No file descriptor supplied via SCM_RIGHTS")
        self.names[arguments["fdname"]] = self.fds.pop(0)

    def device_add(self, arguments: Arguments) -> None:
        if "chardev" in arguments:
            if arguments["chardev"] not in self.chardevs:
                raise Refused(f"Property '{arguments['driver']}.chardev' can't find value")
            self.print_console(json.dumps(arguments) + "\n")
            return
        if arguments["guest-cid"] == 666:
            raise Refused("vhost-vsock: unable to set guest cid: Address already in use")
        self.print_console(json.dumps(arguments) + "\n")
        os.write(self.names.pop(arguments["vhostfd"]), b"QEMU has it")

    def x_query_virtio_status(self, arguments: Arguments) -> object:
        assert arguments["path"] == "/machine/peripheral/vsock0/virtio-backend"
        if "old" in self.behaviour:
            raise Refused("The command x-query-virtio-status has not been found")
        self.asked += 1
        return {"vhost-started": self.asked % 3 == 0}

    def chardev_add(self, arguments: Arguments) -> None:
        if arguments["id"] in self.chardevs:
            raise Refused(f"Chardev with id '{arguments['id']}' already exists")
        if arguments["backend"]["data"].get("server"):
            self.print_console(json.dumps(arguments) + "\n")
        else:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(arguments["backend"]["data"]["addr"]["data"]["path"])
        self.chardevs.append(arguments["id"])

    def chardev_change(self, arguments: Arguments) -> None:
        self.print_console(json.dumps(arguments) + "\n")

    def chardev_remove(self, arguments: Arguments) -> None:
        self.chardevs.remove(arguments["id"])

    def device_del(self, arguments: Arguments) -> None:
        device, path = arguments["id"], f"/machine/peripheral/{arguments['id']}"
        if "refuses-unplug" in self.behaviour:
            self.event("DEVICE_UNPLUG_GUEST_ERROR", device=device, path=path)
        else:
            self.event("DEVICE_DELETED", path=f"{path}/virtio-backend")
            self.event("DEVICE_DELETED", device=device, path=path)

    def x_echo(self, arguments: Arguments) -> object:
        return arguments

    def x_event(self, arguments: Arguments) -> None:
        self.event(arguments.pop("name"), **arguments)

    def x_exit(self, arguments: Arguments) -> None:
        sys.exit(arguments["words"])

    def x_close(self, arguments: Arguments) -> None:
        self.event("LAST", word=True)
        self.qmp.shutdown(socket.SHUT_RDWR)

    def x_segfault(self, arguments: Arguments) -> None:
        os.kill(os.getpid(), signal.SIGSEGV)

    def x_guest_ends(self, arguments: Arguments) -> None:
        self.print_console("[    1.000000] reboot: Power down\n")
        self.event("SHUTDOWN", guest=True, reason=arguments["reason"])
        sys.exit(0)

    def x_guest_panics(self, arguments: Arguments) -> None:
        self.print_console("[    1.000000] Kernel panic - not syncing: test\n")
        self.event("GUEST_PANICKED", action="pause")
        self.event("STOP")

    def x_stop(self, arguments: Arguments) -> None:
        self.status = arguments["status"]
        sys.stderr.write("KVM internal error. Suberror: 3\n")
        sys.stderr.flush()
        self.event("STOP")


def main() -> None:
    behaviour = os.environ.get("FAKE_QEMU", "").split()
    if "exits-at-once" in behaviour:
        sys.exit("qemu-system-x86_64: -accel kvm: Could not access KVM kernel module")
    if "obeys-sigterm" in behaviour:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    elif "deaf" in behaviour:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    argv = "\n".join(sys.argv)
    fd, console = re.search(r"socket,id=qmp,fd=(\d+)", argv), re.search(r"id=console,path=([^,]+)", argv)
    assert fd is not None
    assert console is not None
    FakeQemu(socket.socket(fileno=int(fd[1])), behaviour, console[1]).serve()


if __name__ == "__main__":
    main()
