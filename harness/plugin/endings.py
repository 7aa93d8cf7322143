"""How a run ends that pytest itself does not end: an error or an interrupt before or after its session."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from harness.host import interrupts
from harness.host.paths import cache_root
from harness.model.errors import HarnessError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_NEARLY_NONE = 1 << 20
"""Bytes: a file system with fewer free is what was full."""


@contextlib.contextmanager
def told(config: pytest.Config, results: Path) -> Iterator[None]:
    """Errors become pytest's usage errors, an interrupt a line and exit code 2; never a traceback.

    An interrupt while the tests run is pytest's own; a second one, while the run ends, changes nothing.

    :param results: the folder in which the run's folder is made.
    :raise pytest.UsageError: pytest exits with 4.
    :raise SystemExit: interrupted.
    """
    # a debugger's user interrupts more than once
    once = contextlib.nullcontext() if config.option.usepdb else interrupts.once()
    with once:
        try:
            yield
        except KeyboardInterrupt:
            sys.stderr.write("vsock-harness: interrupted\n")
            raise SystemExit(int(pytest.ExitCode.INTERRUPTED)) from None
        except HarnessError as error:
            raise pytest.UsageError("\n".join([str(error), *getattr(error, "__notes__", [])])) from None
        except OSError as error:
            words = words_of(error, (results, cache_root(), Path(tempfile.gettempdir())))
            if not words:
                raise  # nothing that a user can make sense of: a bug
            raise pytest.UsageError(words) from error


def words_of(error: OSError, places: Iterable[Path]) -> str:
    """What a user can do about it; "" if that can't be told.

    What fails for want of room names no file when it was open already: then those of `places` that are full.
    """
    names = [str(error.filename)] if error.filename else []
    if not names and error.errno in _FULL:
        names = [str(place) for place in places if _is_full(place)]
    if not names:
        return ""
    hint = "\nhint: --results DIR and XDG_CACHE_HOME say where else there is room"
    return f"{', '.join(names)}: {error.strerror}{hint if error.errno in _FULL else ''}"


def _is_full(place: Path) -> bool:
    try:
        found = os.statvfs(place)
    except OSError:
        return False
    return found.f_bavail * found.f_frsize < _NEARLY_NONE
