"""A vhost-device-vsock for tests: listens on both sockets of its ``--vm`` option, until it is ended."""

from __future__ import annotations

import signal
import socket
import sys


def main(words: list[str]) -> None:
    if "--refuse" in words:
        sys.stderr.write("no such option\n")
        sys.exit(3)
    options = dict(pair.split("=") for pair in words[words.index("--vm") + 1].split(","))
    listeners = [socket.socket(socket.AF_UNIX) for _ in range(2)]
    for listener, path in zip(listeners, (options["socket"], options["uds-path"]), strict=True):
        listener.bind(path)
        listener.listen()
    signal.pause()


if __name__ == "__main__":
    main(sys.argv[1:])
