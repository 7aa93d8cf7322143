"""The published JSON Schema is the generated one, and says of our files and of typos what the loader says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import harness
from harness.model import yaml
from harness.model.claims import Claim
from harness.model.expect import Word
from harness.model.link import Link
from harness.model.schema import WORDS, schema, text
from harness.model.steps import Step
from harness.model.values import Where
from tests.unit.mistakes import FLAT, GROUPS
from tests.unit.traces import SCENARIOS

SCHEMA = schema()


def faults(value: Any, rule: dict[str, Any], at: str = "$") -> list[str]:
    """What a validator of JSON Schema would say. It knows the keywords that ours uses and no others."""
    found: list[str] = []
    for keyword, wanted in rule.items():
        match keyword:
            case "$ref":
                found += faults(value, SCHEMA["$defs"][wanted.removeprefix("#/$defs/")], at)
            case "type":
                kinds: dict[str, type | tuple[type, ...]] = {
                    "object": dict,
                    "array": list,
                    "string": str,
                    "integer": int,
                    "number": (int, float),
                    "boolean": bool,
                }
                right = isinstance(value, kinds[str(wanted)]) and (wanted == "boolean") == isinstance(
                    value, bool
                )
                found += [] if right else [f"{at} is no {wanted}"]
            case "anyOf":
                found += [] if any(not faults(value, option) for option in wanted) else [f"{at} fits none"]
            case "oneOf":
                fitting = [option for option in wanted if not faults(value, option)]
                found += [] if len(fitting) == 1 else [f"{at} fits {len(fitting)}"]
            case "const":
                found += [] if value == wanted else [f"{at} is not {wanted}"]
            case "enum":
                found += [] if value in wanted else [f"{at} is none of {wanted}"]
            case "description" | "title" | "default" | "$schema" | "$defs":
                pass
            case _:
                found += limits(value, keyword, wanted, rule, at)
    return found


def limits(value: Any, keyword: str, wanted: Any, rule: dict[str, Any], at: str) -> list[str]:
    if isinstance(value, dict):
        match keyword:
            case "properties":
                both = [key for key in value if key in wanted]
                return [fault for key in both for fault in faults(value[key], wanted[key], f"{at}.{key}")]
            case "additionalProperties":
                others = [key for key in value if key not in rule.get("properties", {})]
                if wanted is False:
                    return [f"{at} has {key}" for key in others]
                return [fault for key in others for fault in faults(value[key], wanted, f"{at}.{key}")]
            case "propertyNames":
                return [fault for key in value for fault in faults(key, wanted, f"{at}.{key}")]
            case "required":
                return [f"{at} lacks {key}" for key in wanted if key not in value]
    rules: dict[str, Callable[[], object]] = {
        "pattern": lambda: not isinstance(value, str) or re.search(wanted, value),
        "minimum": lambda: not isinstance(value, int) or value >= wanted,
        "maximum": lambda: not isinstance(value, int) or value <= wanted,
        "minItems": lambda: not isinstance(value, list) or len(value) >= wanted,
        "uniqueItems": lambda: not isinstance(value, list) or len({*map(str, value)}) == len(value),
        "items": lambda: not isinstance(value, list) or not any(faults(item, wanted) for item in value),
        "minProperties": lambda: not isinstance(value, dict) or len(value) >= wanted,
        "maxProperties": lambda: not isinstance(value, dict) or len(value) <= wanted,
        "properties": lambda: True,
        "additionalProperties": lambda: True,
        "propertyNames": lambda: True,
        "required": lambda: True,
    }
    return [] if rules[keyword]() else [f"{at}: {keyword} {wanted}"]


def test_the_published_schema_is_the_generated_one() -> None:
    published = (SCENARIOS / "scenario.schema.json").read_text()
    assert published == text(), "write it anew: vsock-harness schema > scenarios/scenario.schema.json"
    assert json.loads(published) == SCHEMA
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize("path", sorted(SCENARIOS.glob("*.yaml")), ids=lambda path: path.stem)
def test_our_files_fit(path: Path) -> None:
    assert faults(yaml.read(path).plain(), SCHEMA) == []


@pytest.mark.parametrize(
    ("base", "old", "new"),
    [
        (FLAT, "clients: 8", "clinets: 8"),
        (FLAT, "title: T", "title: |\n  a\n  b"),
        (FLAT, "multiple-clients", "multiple-client"),
        (FLAT, "[vsock,", "[vsok,"),
        (FLAT, "[vsock,", "[vsock, vsock,"),
        (FLAT, "clients: 8", "clients: 0"),
        (FLAT, "clients: 8", "clients: true"),
        (FLAT, "echo:", "ecko:"),
        (FLAT, "bytes: 1MiB}", "bytes: 1MiB}\n    ping: {}"),
        (FLAT, "- echo: {bytes: 1MiB}", "- {}"),
        (FLAT, "1MiB", "1MB"),
        (FLAT, "1MiB", "{default: 1, isaserial: 2}"),
        (FLAT, "  vsock:", "  vsok:"),
        (FLAT, "served: 8", "served: {mn: 8}"),
        (FLAT, "served: 8", "srved: 8"),
        (GROUPS, "argv: [cat]", "argv: []"),
        (GROUPS, "  one:", "  One:"),
        (GROUPS, "one: {served", "one: {serve"),
        (GROUPS, "count: 2", "count: 2\n    connection: shard"),
    ],
)
def test_a_typo_does_not_fit(tmp_path: Path, base: str, old: str, new: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(base)
    assert faults(yaml.read(path).plain(), SCHEMA) == []
    path.write_text(base.replace(old, new, 1))
    assert faults(yaml.read(path).plain(), SCHEMA) != []


def test_every_word_is_there_and_explained() -> None:
    step = SCHEMA["$defs"]["Step"]
    assert list(step["properties"]) == [kind.op for kind in Step.__args__]
    assert (step["minProperties"], step["maxProperties"]) == (1, 1)
    assert [option["const"] for option in SCHEMA["$defs"]["Claim"]["oneOf"]] == list(Claim)
    assert all(option["description"] for option in SCHEMA["$defs"]["Claim"]["oneOf"])
    assert SCHEMA["$defs"]["Link"]["enum"] == list(Link)
    assert list(SCHEMA["properties"]["expect"]["properties"]) == list(Link)
    assert list(WORDS) == list(Word)
    for name in step["properties"].values():
        assert SCHEMA["$defs"][name["$ref"].removeprefix("#/$defs/")]["description"]


def test_a_value_per_link_may_name_each_link() -> None:
    assert [where.value for where in Where] == ["default", *Link]


def test_references_lead_somewhere() -> None:
    used = set(re.findall(r'"#/\$defs/(\w+)"', text()))
    assert used == set(SCHEMA["$defs"])


def test_msgspec_meta_is_not_used() -> None:
    """With it, msgspec crashes Python 3.11 at exit now and then (its issue 717)."""
    root = Path(harness.__file__).parent
    users = [str(p.relative_to(root)) for p in root.rglob("*.py") if re.search(r"\bMeta\(", p.read_text())]
    assert users == []


def test_python_ends_in_peace() -> None:
    """Ten processes that load a scenario end without a crash; with `msgspec.Meta`, three in ten did crash."""
    code = "import sys, pathlib, harness.model.scenario as s; s.load(pathlib.Path(sys.argv[1]))"
    argv = [sys.executable, "-c", code, str(SCENARIOS / "pod-diagram.yaml")]
    assert [subprocess.run(argv, check=False).returncode for _ in range(10)] == [0] * 10
