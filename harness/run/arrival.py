"""How the agent gets into a guest that boots: with its initramfs, or by SSH once it is up."""

from __future__ import annotations

import msgspec

from harness.guest import inject
from harness.lab.keys import Keys
from harness.model.deadline import Deadline
from harness.vm.machine import Machine


class Arrival(msgspec.Struct, frozen=True):
    """`pair` opens the sshd of a distribution's own guest; None where the agent is in the initramfs."""

    pair: Keys | None = None

    @property
    def seconds(self) -> float:
        """What a boot may take; multiplied by the host's slowness.

        On a desktop core ours takes 2 s, a distribution's 5 s.
        """
        return 60.0 if self.pair is None else 150.0

    async def awaited(self, machine: Machine, deadline: Deadline) -> None:
        """Return once the agent serves all links of `machine`, whose guest is booting.

        :raise GuestCrashed: the guest's kernel did.
        :raise InfrastructureError: the guest did not come up in time, or ended, or takes no files.
        """
        await self.again(machine, deadline)
        await machine.console.wait_for(inject.READY, deadline, machine.check)

    async def again(self, machine: Machine, deadline: Deadline) -> None:
        """Put the agent into a guest that has been reset, once that is up; at once where it comes by itself.

        :raise: as `awaited`.
        """
        if self.pair is not None:
            from harness.run import sshd  # paramiko takes an emulated CPU a second

            await sshd.injected(machine, self.pair, deadline)
