"""An external proxy for tests: MUX LISTEN; one client after another, a stream each, no window ever given."""

from __future__ import annotations

import select
import socket
import struct
import sys

HEADER = struct.Struct(">BBHII")
DATA, WINDOW_UPDATE, SYN, FIN = 0, 1, 1, 4


def serve(mux: socket.socket, client: socket.socket, stream: int) -> None:
    mux.sendall(HEADER.pack(0, WINDOW_UPDATE, SYN, stream, 0))
    while True:
        ready, _, _ = select.select([mux, client], [], [])
        if client in ready:
            data = client.recv(4096)
            if not data:
                mux.sendall(HEADER.pack(0, WINDOW_UPDATE, FIN, stream, 0))
                return
            mux.sendall(HEADER.pack(0, DATA, 0, stream, len(data)) + data)
        if mux in ready:
            _, kind, _, _, length = HEADER.unpack(mux.recv(HEADER.size, socket.MSG_WAITALL))
            if kind == DATA and length:
                client.sendall(mux.recv(length, socket.MSG_WAITALL))


def main(mux_path: str, listen_path: str) -> None:
    mux, listener = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    mux.connect(mux_path)
    listener.bind(listen_path)
    listener.listen()
    for stream in range(1, 1000, 2):
        client, _ = listener.accept()
        with client:
            serve(mux, client, stream)


if __name__ == "__main__":
    main(*sys.argv[1:])
