"""What runs in the guest: serves clients over every link. Standard library only, relative imports only.

The folder is put into a guest as it is and started there with an old or new Python, so nothing in it
imports anything above it, and nothing imports more than it needs: under emulation each import costs.
"""

# Importing pathlib would cost more than it gives.
# ruff: noqa: PTH118, PTH208

import os


def digest(folder: str) -> str:
    """The sha256 (hex) of an agent: over the sorted names and contents of the ``*.py`` files in `folder`.

    Host and guest compute it from their own copies; equal digests mean that the guest runs what the host has.

    :raise OSError: if the folder or one of its files cannot be read.
    """
    import hashlib  # not needed by those who import only the wire format

    digester = hashlib.sha256()
    for name in sorted(entry for entry in os.listdir(folder) if entry.endswith(".py")):
        with open(os.path.join(folder, name), "rb") as file:
            content = file.read()
        digester.update(f"{name}\0{len(content)}\0".encode())
        digester.update(content)
    return digester.hexdigest()
