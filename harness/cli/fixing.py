"""``vsock-harness doctor --fix``: what is safe of the mends is run, each after a yes, and looked at again."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.host import mends
from harness.host.finding import Finding, Probe, Step
from harness.host.mends import Ran

_LONGEST = 200
"""Characters of what was seen, beside a change; the table has it whole."""


@dataclass(frozen=True)
class Dialogue:
    """Asks, runs and tells, at a terminal or not.

    :ivar yes: ask nothing, run all.
    :ivar terminal: sudo may ask for a password.
    """

    yes: bool
    terminal: bool

    def allowed(self, step: Step) -> bool:
        """Whether the step may be run; the end of the input is a no."""
        if self.yes:
            return True
        print("  run it? [y/N] ", end="", flush=True)
        return sys.stdin.readline().strip().lower() in {"y", "yes"}

    def run(self, step: Step) -> Ran:
        """Run it as root, by sudo if need be."""
        return mends.run(step, terminal=self.terminal)

    def tell(self, line: str) -> None:
        """Print a line at once."""
        print(line, flush=True)


def fix(findings: Iterable[Finding], probes: Iterable[Probe], dialogue: Dialogue) -> list[Finding]:
    """The findings as they are after every safe step was run or declined.

    A step that is declined or fails ends those of its finding. After each that ran, all that isn't fine is
    looked at again; what is found then may have steps of its own. None is run, or asked for, twice.
    """
    fixer = _Fixer({finding.ability: finding for finding in findings}, list(probes), dialogue)
    fixer.run_all()
    return list(fixer.now.values())


class _Fixer:
    def __init__(self, now: dict[str, Finding], probes: Sequence[Probe], dialogue: Dialogue) -> None:
        self.now = now
        self._probes = {probe.ability: probe for probe in probes}
        self._dialogue = dialogue
        self._past: set[Step] = set()

    def run_all(self) -> None:
        """Finding by finding, until none has a step left; then what is left to do by hand."""
        while True:
            steps = ((one, self._left(one)) for one in self.now.values() if not one.fine)
            finding, left = next(((one, left) for one, left in steps if left), (None, []))
            if finding is None:
                break
            self._dialogue.tell(f"\n{_brief(finding)}")
            self._past.update(left)
            for step in left:
                if not self._step(finding.ability, step):
                    break
        self._by_hand()

    def _left(self, finding: Finding) -> list[Step]:
        return [step for step in finding.fix if step not in self._past]

    def _step(self, ability: str, step: Step) -> bool:
        """Whether it was run, and well."""
        effect = f"  # {step.effect}" if step.effect else ""
        self._dialogue.tell(f"  {mends.shown(step)}{effect}")
        if not self._dialogue.allowed(step):
            self._dialogue.tell("  not run")
            return False
        ran = self._dialogue.run(step)
        if ran.code:
            self._dialogue.tell(textwrap.indent(ran.output or "(no output)", "    "))
            self._dialogue.tell(f"  failed with exit code {ran.code}")
        self._look_again(ability)
        return ran.code == 0

    def _look_again(self, ability: str) -> None:
        """At all that isn't fine, as one step may mend several; and tell what has changed."""
        for name, before in list(self.now.items()):
            if name not in self._probes or (before.fine and name != ability):
                continue
            after = self.now[name] = self._probes[name].look()
            if after.verdict is not before.verdict:
                self._dialogue.tell(
                    f"  {name}: {before.verdict} -> {_short(f'{after.verdict}: {after.seen}')}"
                )
            elif name == ability and not after.fine:
                self._dialogue.tell(f"  {name}: still {_short(f'{after.verdict}: {after.seen}')}")

    def _by_hand(self) -> None:
        left = [finding for finding in self.now.values() if finding.mend and not finding.fine]
        if not self._past:
            self._dialogue.tell("\nnothing is wrong that a safe command would mend")
        if left:
            self._dialogue.tell("\nleft to you:")
        for finding in left:
            self._dialogue.tell(f"  {finding.ability}: {finding.mend}")


def _brief(finding: Finding) -> str:
    return _short(f"{finding.ability} is {finding.verdict}: {finding.seen}")


def _short(text: str) -> str:
    return textwrap.shorten(text, _LONGEST, placeholder=" ...")
