"""What a request says and an answer tells, as JSON; and that one is refused."""

import json
from typing import Any

from .wire import Frame


class Refused(Exception):
    """A request that cannot be done: becomes ERROR with `code` and `message`, and the session goes on."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def as_json(value: object) -> bytes:
    """An answer's payload."""
    return json.dumps(value, separators=(",", ":")).encode()


def fields(frame: Frame, **defaults: Any) -> dict[str, Any]:
    """The request's JSON object, each field of its default's type, with the defaults of those not given.

    :raise Refused: if it is anything else.
    """
    try:
        given = json.loads(frame.payload or b"{}")
    except (ValueError, RecursionError) as error:
        raise Refused("bad-request", f"no JSON: {error}") from error
    if not isinstance(given, dict) or not given.keys() <= defaults.keys():
        raise Refused("bad-request", f"want an object of {sorted(defaults)}")
    for name, value in given.items():
        if type(value) is not type(defaults[name]):
            raise Refused("bad-request", f"{name}: want {type(defaults[name]).__name__}")
        if isinstance(value, int) and value < 0:
            raise Refused("bad-request", f"{name}: {value} is negative")
    return {**defaults, **given}
