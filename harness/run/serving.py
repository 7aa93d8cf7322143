"""The programs of a scenario in its pod, up before the clients begin; what their tools are run as."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import shutil
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from msgspec.structs import replace

from harness.guest.client import AgentClient
from harness.host.speed import slowness
from harness.lab import keys
from harness.lab.keys import Keys
from harness.link.connect import connect
from harness.model.deadline import Deadline, until
from harness.model.errors import HostUnfit, SystemFailure
from harness.model.link import Endpoint, Link
from harness.model.plan import Plan
from harness.model.program import DEVICE, PORT_NAME, ProgramName, ProgramPlan, Tool
from harness.run import control, programs
from harness.run.place import Place
from harness.run.pod import Pod
from harness.vm.ports import plug_port, wire_spare_port

SPARE = "/dev/ttyS2"
"""The guest's device of a pod's spare isa-serial port."""

PACKAGES = {Tool.SOCAT: "socat", Tool.NBDCOPY: "libnbd-bin", Tool.SSH: "openssh-client"}
"""Debian's, of the tools."""

_SECONDS = 60.0
"""For what takes a second on a desktop core; multiplied by the host's slowness."""

_BUSYBOX = "/bin/busybox"


def own_port(plan: Plan) -> bool:
    """Whether a program has a serial port of its own: tools speak to it over a serial link."""
    return plan.spoken_to is not None and not plan.link.is_vsock


def links(plan: Plan) -> set[Link]:
    """What a pod of `plan` has, for its clients and for putting programs into it."""
    if not plan.programs:
        return {plan.link}
    return {plan.link, _fast(plan.link)}


@contextlib.asynccontextmanager
async def served(
    plan: Plan, pod: Pod, place: Place, log_folder: Path
) -> AsyncIterator[dict[str, control.Tool]]:
    """The programs of `plan` are in `pod`, and those it runs are up; gives what each group's tool runs.

    What they wrote is in `log_folder`, in NAME.log, afterwards.

    :raise HostUnfit: this host has no image of programs, or not the tools.
    :raise SystemFailure: a program can't be put there, or ends by itself.
    :raise DeadlinePassed: one is not up in time, or the guest does not find its port.
    """
    tools = {group.name: group.tool for group in plan.groups if group.tool}
    lack = next((tool.name for tool in tools.values() if shutil.which(tool.name) is None), None)
    if lack:
        hint = f"sudo apt-get install --no-install-recommends {PACKAGES[lack]}"
        raise HostUnfit(f"{lack.value} is not installed", ability="tools", hint=hint)
    with contextlib.ExitStack() as stack:
        if not plan.programs:
            yield {}
            return
        pair = keys.ensure(place.folder.path / "programs") if _has_sshd(plan) else None
        to_agent = pod.endpoint(_fast(plan.link))
        await asyncio.to_thread(_install, plan, place, to_agent, pair)
        ends = {one.name: replace(to_agent, port=one.port) for one in plan.programs if one.port is not None}
        device = ""
        if own_port(plan):
            path = place.folder.socket(f"program-{plan.link}")
            device = await _serial_end(plan, pod, path, to_agent)
            assert plan.spoken_to
            ends[plan.spoken_to.name] = Endpoint(link=plan.link, path=str(path))
        for one in plan.programs:
            if one.run:
                log = log_folder / f"{one.name}.log"
                container = stack.enter_context(programs.running(to_agent, one.run, log))
                end = ends.get(one.name)
                own = device if one is plan.spoken_to else ""
                await asyncio.to_thread(_up, one, end, to_agent, container.pid, own)
        env = dict(place.folder.mark)
        yield {
            group: control.Tool(tuple(argv(tool.name, ends[tool.to], pair)), env)
            for group, tool in tools.items()
        }


def argv(tool: Tool, end: Endpoint, pair: Keys | None = None) -> list[str]:
    """The words that run `tool` as a client of a program at `end`.

    :param pair: the keys of the guest's sshd and of its user, for ssh.
    """
    address = f"UNIX-CONNECT:{end.path}" if end.path else f"VSOCK-CONNECT:{end.cid}:{end.port}"
    match tool:
        case Tool.SOCAT:
            return ["socat", "-", address]
        case Tool.NBDCOPY:
            return ["nbdcopy", "--connections=1", f"nbd+vsock://{end.cid}:{end.port}", "-"]
        case Tool.SSH:
            assert pair is not None
            options = {
                "UserKnownHostsFile": programs.known_hosts(pair),
                "StrictHostKeyChecking": "yes",
                "BatchMode": "yes",
                "IdentityFile": pair.user,
                "IdentitiesOnly": "yes",
                # as systemd's own ssh_config has it
                "ProxyCommand": f"socat - {address}",
            }
            words = [f"-o{name}={value}" for name, value in options.items()]
            return ["ssh", "-F", "none", "-T", *words, f"root@{programs.HOST}", "exec busybox cat"]


def _fast(link: Link) -> Link:
    """The link by which programs are put into a pod, 10 to 30 MB, and started."""
    return link if link.is_vsock else Link.VSOCK


def _has_sshd(plan: Plan) -> bool:
    return any(one.name is ProgramName.SSHD for one in plan.programs)


def _deadline() -> Deadline:
    return Deadline(_SECONDS * slowness())


def _install(plan: Plan, place: Place, to_agent: Endpoint, pair: Keys | None) -> None:
    image = place.programs
    if image is None:
        hint = "vsock-harness images build programs"
        raise HostUnfit("this host has no image of programs", ability="images", hint=hint)
    files: Mapping[str, bytes] = programs.sshd_files(pair) if pair else {}
    with AgentClient(connect(to_agent)) as agent:
        programs.install(agent, image, [one.name for one in plan.programs], files)


async def _serial_end(plan: Plan, pod: Pod, path: Path, to_agent: Endpoint) -> str:
    """Give the guest a serial port for a program, whose host's end is `path`; the guest's device."""
    deadline = _deadline()
    if plan.link is Link.ISA_SERIAL:
        await wire_spare_port(pod.machine.monitor, path, deadline)
    else:
        await plug_port(pod.machine.monitor, PORT_NAME, path, deadline)
    return await asyncio.to_thread(_named, plan.link, to_agent, deadline)


def _named(link: Link, to_agent: Endpoint, deadline: Deadline) -> str:
    """The port's device, once the guest has it, which is called `DEVICE` there from now on."""
    with AgentClient(connect(to_agent)) as agent:
        device = SPARE
        if link is not Link.ISA_SERIAL:
            found = functools.partial(_device, agent, deadline)
            device = until(found, deadline, f"the guest's port {PORT_NAME}")
        agent.run([_BUSYBOX, "ln", "-sf", device, DEVICE], deadline=deadline)
        return device


def _device(agent: AgentClient, deadline: Deadline) -> str | None:
    words = f"grep -l '^{PORT_NAME}$' /sys/class/virtio-ports/*/name"
    found = agent.run([_BUSYBOX, "sh", "-c", words], deadline=deadline)
    return f"/dev/{Path(found.stdout.decode().strip()).parent.name}" if found.code == 0 else None


def _up(program: ProgramPlan, end: Endpoint | None, to_agent: Endpoint, pid: int, device: str) -> None:
    """Wait until it listens, or has its serial port open: what a UART gets before that is lost.

    Nobody tells the host when a guest's socket listens: it is dialled until somebody is there, who sees that
    client leave at once.
    """
    if end is None:
        return
    deadline = _deadline()
    with AgentClient(connect(to_agent)) as agent:

        def there() -> bool:
            if not _runs(agent, pid, "", deadline):
                raise SystemFailure(
                    f"{program.name.value} ended by itself before any client came",
                    hint=f"its words are in {program.name.value}.log",
                )
            if device:
                return _runs(agent, pid, device, deadline)
            with contextlib.suppress(OSError):
                connect(end).close()
                return True
            return False

        until(there, deadline, f"{program.name.value} in the guest is up")


def _runs(agent: AgentClient, pid: int, device: str, deadline: Deadline) -> bool:
    """Whether a process of the guest is there, and has `device` open if that is not empty."""
    look = f"ls -l /proc/{pid}/fd | grep -q '{device}$'"
    return agent.run([_BUSYBOX, "sh", "-c", look], deadline=deadline).code == 0
