"""How a run ends that pytest itself does not end: an error or an interrupt before or after its session."""

from __future__ import annotations

import contextlib
import errno
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.host import interrupts, pipes
from harness.host.depot import free_bytes
from harness.host.paths import cache_root
from harness.model.errors import HarnessError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_NEARLY_NONE = 1 << 20
"""Bytes: a file system with fewer free is what was full."""


@contextlib.contextmanager
def told(config: pytest.Config, results: Path) -> Iterator[None]:
    """Errors become pytest's usage errors, an interrupt a line and exit code 2; never a traceback.

    An interrupt while the tests run is pytest's own; a second one, while the run ends, changes nothing. If
    whoever read the output left it (`| head`), the run ends as for an interrupt, without a word.

    :param results: the folder in which the run's folder is made.
    :raise pytest.UsageError: pytest exits with 4.
    :raise SystemExit: interrupted, or the output is read no more.
    """
    # a debugger's user interrupts more than once
    once = contextlib.nullcontext() if config.option.usepdb else interrupts.once()
    readers = _Readers(config)
    config.pluginmanager.register(readers)  # without a name: `trial` has a child come here once more
    with once:
        try:
            yield
            sys.stdout.flush()
        except KeyboardInterrupt:
            sys.stderr.write("vsock-harness: interrupted\n")
            raise SystemExit(int(pytest.ExitCode.INTERRUPTED)) from None
        except HarnessError as error:
            raise pytest.UsageError("\n".join([str(error), *getattr(error, "__notes__", [])])) from None
        except OSError as error:
            if pipes.is_left(error):
                readers.left()
                return
            words = words_of(error, (results, cache_root(), Path(tempfile.gettempdir())))
            if not words:
                raise  # nothing that a user can make sense of: a bug
            raise pytest.UsageError(words) from error
        finally:
            if readers.have_left:
                raise SystemExit(pipes.PIPE_CLOSED)


class _Readers:
    """Those of this process's output. When they leave, pytest's session is ended, and nothing more is said.

    pytest's own way is an internal error, whose telling fails as well, and exit code 1: tests failed.
    """

    def __init__(self, config: pytest.Config) -> None:
        self.have_left = False
        self._config = config
        self._session: pytest.Session | None = None

    def left(self) -> None:
        """They have: what is written from now on goes nowhere."""
        self.have_left = True
        capture: Any = self._config.pluginmanager.get_plugin("capturemanager")
        if capture is not None:
            capture.stop_global_capturing()  # it would put back the output that it knows
        pipes.hush()

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """It is this one that ends then."""
        self._session = session

    @pytest.hookimpl(tryfirst=True)
    def pytest_internalerror(self, excinfo: pytest.ExceptionInfo[BaseException]) -> bool | None:
        """A write that fails for want of readers is no error of anybody's; the next tell nobody."""
        if not pipes.is_left(excinfo.value):
            return None
        self.left()
        if self._session is not None:
            self._session.exitstatus = pipes.PIPE_CLOSED
        return True


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
        return free_bytes(place) < _NEARLY_NONE
    except OSError:
        return False
