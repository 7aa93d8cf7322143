"""The JSON Schema of scenario files (draft 2020-12), from the same shapes that `check` uses."""

from __future__ import annotations

import inspect
from enum import StrEnum
from typing import Any

from msgspec import Struct

from harness.model import written, writtenexpect
from harness.model.claims import Claim
from harness.model.expect import Word
from harness.model.link import Link
from harness.model.shape import (
    Anything,
    Choice,
    Either,
    Flag,
    Items,
    Limits,
    Number,
    Real,
    Record,
    Shape,
    Table,
    Text,
    Written,
    entries,
    shape_of,
)

Json = dict[str, Any]

WORDS = {
    Word.SERVED: "every step ended: all answers came",
    Word.INTACT: "served, and all that the steps ask for compared equal; left out: all served ones",
    Word.WAITED: "served, but first answered only after a client that held had left; left out: any",
    Word.WAITING: "never answered; ended by the coordinator",
    Word.REFUSED: "connect() failed",
    Word.GARBLED: "read wrong data, a bad frame, or nothing that belongs to it",
    Word.STALE: "read a reply to a request that it never made",
    Word.LOST: "its connection ended in a step, or answers came and then no more",
}
"""Help for each word of an expectation."""


def schema() -> Json:
    """The schema as JSON data. What it cannot say (groups' names, sums of counts) `scenario.load` checks."""
    definitions: Json = {}
    _expectation(definitions)
    root = _record(written.File, definitions)
    root["properties"]["expect"]["properties"] = {link: {"$ref": "#/$defs/Expectation"} for link in Link}
    root["properties"]["expect"]["additionalProperties"] = False
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "vsock-harness scenario",
        **root,
        "$defs": dict(sorted(definitions.items())),
    }


def text() -> str:
    """The schema as the text of its file."""
    import json

    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def _of(shape: Shape, definitions: Json) -> Json:
    found = _bare(shape, definitions)
    if shape.limits.help:
        found = {"description": shape.limits.help, **found}
    return _define(shape.limits.name, found, definitions) if shape.limits.name else found


def _bare(shape: Shape, definitions: Json) -> Json:
    match shape:
        case Text():
            return _text(shape.limits)
        case Number() | Real():
            low, high = shape.limits.low, shape.limits.high
            found: Json = {"type": "integer" if isinstance(shape, Number) else "number"}
            found |= {} if low is None else {"minimum": low}
            return found | ({} if high is None else {"maximum": high})
        case Flag():
            return {"type": "boolean"}
        case Choice():
            return _define(shape.words.__name__, _choice(shape.words), definitions)
        case Items():
            unique = isinstance(shape.item, Choice)
            found = {"type": "array", "items": _of(shape.item, definitions), "minItems": shape.limits.least}
            return found | ({"uniqueItems": True} if unique else {})
        case Table():
            return _table(shape, definitions)
        case Record():
            if shape.struct.__name__ not in definitions:
                definitions[shape.struct.__name__] = {}  # entered before its parts, which may need it
                definitions[shape.struct.__name__] = _record(shape.struct, definitions)
            return {"$ref": f"#/$defs/{shape.struct.__name__}"}
        case Either():
            return {"anyOf": [_of(option, definitions) for option in shape.options]}
        case Anything():
            return {}


def _text(limits: Limits) -> Json:
    if limits.words:
        return {"enum": list(limits.words), "description": limits.wanted}
    if not limits.pattern:
        return {"type": "string"}
    return {"type": "string", "pattern": limits.pattern, "description": limits.wanted}


def _choice(words: type[StrEnum]) -> Json:
    if words is Claim:
        return {"oneOf": [{"const": claim, "description": claim.sentence} for claim in Claim]}
    return {"enum": list(words)}


def _table(shape: Table, definitions: Json) -> Json:
    value = _of(shape.value, definitions)
    if isinstance(shape.key, Choice):
        properties = dict.fromkeys(shape.key.allowed, value)
        return {"type": "object", "properties": properties, "additionalProperties": False, "minProperties": 1}
    names = _of(shape.key, definitions)
    return {"type": "object", "propertyNames": names, "additionalProperties": value, "minProperties": 1}


def _record(struct: type[Written], definitions: Json) -> Json:
    properties = {}
    for key, entry in entries(struct).items():
        properties[key] = _of(entry.shape, definitions)
        if isinstance(entry.default, str | int) and entry.default != "":
            properties[key]["default"] = entry.default
    found: Json = {
        "description": _first_line(struct),
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }
    required = [key for key, entry in entries(struct).items() if entry.required]
    found |= {"required": required} if required else {}
    return found | ({"minProperties": 1, "maxProperties": 1} if struct.one_key else {})


def _expectation(definitions: Json) -> None:
    """An expectation's keys are words, `facts` and the file's own group names."""
    count = _of(shape_of(writtenexpect.Count), definitions)
    words = {word: {"description": help_, **count} for word, help_ in WORDS.items()}
    facts = _of(shape_of(dict[str, writtenexpect.FactValues]), definitions)
    slowdown = _of(shape_of(dict[str, writtenexpect.Slowdown]), definitions)
    noticed = _of(shape_of(dict[str, writtenexpect.Noticed]), definitions)
    definitions["Counts"] = {
        "description": "how many clients of one group end in which way",
        "type": "object",
        "properties": words,
        "additionalProperties": False,
        "minProperties": 1,
    }
    definitions["Expectation"] = {
        "description": "counts of all clients or of each group, and more; a word left out means 0",
        "type": "object",
        "properties": {
            **words,
            "facts": {"description": "group → fact → value", **facts},
            "noticed": {"description": "group → how soon each end must notice the fault", **noticed},
            "slowdown": {"description": "group → against which other group, and how much", **slowdown},
        },
        "additionalProperties": {"$ref": "#/$defs/Counts"},
        "minProperties": 1,
    }


def _define(name: str, what: Json, definitions: Json) -> Json:
    definitions[name] = what
    return {"$ref": f"#/$defs/{name}"}


def _first_line(struct: type[Struct]) -> str:
    return (inspect.getdoc(struct) or "").split("\n", maxsplit=1)[0]
