"""Each mistake of form or sense in a flat scenario file: one error, at its very place, what is allowed."""

from __future__ import annotations

from pathlib import Path

from tests.unit.mistakes import FLAT, KEYS, WORDS, Mistake, each, says_only

STEPS = (
    "echo, ping, send, receive, run, start, finish, open-device, ask-and-leave, stop-reading, flood, "
    "wait-for, containers, meet-fault, leave, connect, messages, shutdown, exchange, copy"
)
FACTS = "second-open, sees, next-send, then, reconnect, guest, containers"
FILE_KEYS = (
    "title, claim, about, links, long, boot, linux, guest-linux, seqpacket, schedule, drain, programs, "
    "fault, clients, workload, expect"
)

FORM = [
    (
        "clients: 8",
        "clinets: 8",
        f"4:1: unknown key 'clinets'; allowed: {FILE_KEYS}; did you mean 'clients'?",
    ),
    ("clients: 8\n", "", "1:1: a scenario lacks the key 'clients'"),
    ("title: T", "title: 8", "1:8: title must be one line of text, not the number 8: put it in quotes"),
    ("title: T", "title: true", "1:8: title must be one line of text, not true: put it in quotes"),
    ("title: T", "title:", "1:1: title must be one line of text, not empty"),
    ("title: T", "title: |\n  a\n  b", "1:8: title must be one line of text, not 'a\\nb\\n'"),
    ("title: T", "title: T\ndrain: yes", "2:8: drain must be true or false, not 'yes'"),
    (
        "title: T",
        "title: T\nboot: Cold",
        "2:7: unknown boot 'Cold'; allowed: clone, cold; did you mean 'cold'?",
    ),
    (
        "[vsock,",
        "[vsok,",
        "3:9: unknown link 'vsok'; allowed: vsock, virtio-serial, virtconsole, isa-serial, serial-proxy, "
        "hybrid-vsock; did you mean 'vsock'?",
    ),
    (
        "[vsock,",
        "[virtio_serial,",
        "3:9: unknown link 'virtio_serial'; allowed: vsock, virtio-serial, virtconsole, isa-serial, "
        "serial-proxy, hybrid-vsock; did you mean 'virtio-serial'?",
    ),
    (
        "[vsock,",
        "[1,",
        "3:9: an item of links must be a word, not the number 1; "
        "allowed: vsock, virtio-serial, virtconsole, isa-serial, serial-proxy, hybrid-vsock",
    ),
    (
        "links: [vsock, virtio-serial]",
        "links: vsock",
        "3:8: links must be a list, not 'vsock': write [vsock]",
    ),
    (
        "links: [vsock, virtio-serial]",
        "links: vsock, isa-serial",
        "3:8: links must be a list, not 'vsock, isa-serial': write [vsock, isa-serial]",
    ),
    ("links: [vsock, virtio-serial]", "links: []", "3:8: links is empty"),
    ("title: T", "title: T\nlong: yes", "2:7: long must be true or false or a list, not 'yes'"),
    (
        "title: T",
        "title: T\nlong: [isa-serial]",
        "2:8: link 'isa-serial' is not in 'links'; allowed: vsock, virtio-serial",
    ),
    ("clients: 8", "clients: eight", "4:10: clients must be an integer or a mapping by name, not 'eight'"),
    (
        "clients: 8",
        "clients: 8.0",
        "4:10: clients must be an integer or a mapping by name, not the number 8.0",
    ),
    ("clients: 8", "clients:", "4:1: clients must be an integer or a mapping by name, not empty"),
    ("clients: 8", "clients: 0", "4:10: clients must be at least 1, not 0"),
    ("clients: 8", "clients: 1001", "4:10: clients must be at most 1000, not 1001"),
    ("clients: 8", "clients: {}", "4:10: clients is empty"),
    ("echo:", "ecko:", f"6:5: unknown step 'ecko'; allowed: {STEPS}; did you mean 'echo'?"),
    (
        "bytes: 1MiB}",
        "bytes: 1MiB}\n    ping: {}",
        "7:5: 'ping' is a second key beside 'echo': a step has one, so begin with '- '",
    ),
    (
        "- echo: {bytes: 1MiB}",
        "- {}",
        f"6:5: an item of workload must have exactly one key; allowed: {STEPS}",
    ),
    (
        "- echo: {bytes: 1MiB}",
        "- ping",
        "6:5: an item of workload must be a mapping, not 'ping': write ping: {}",
    ),
    ("- echo: {bytes: 1MiB}", "- ping:", "6:5: ping must be a mapping, not empty: write {}"),
    ("- echo: {bytes: 1MiB}", "- echo: {}", "6:11: echo lacks the key 'bytes'"),
    (
        "{bytes: 1MiB}",
        "{byts: 1MiB}",
        "6:12: unknown key 'byts'; allowed: bytes, times; did you mean 'bytes'?",
    ),
    (
        "1MiB",
        "1MB",
        "6:19: bytes must be a size such as 64KiB, 1MiB, 2GiB (at most 1024GiB), not '1MB'; "
        "did you mean '1MiB'?",
    ),
    (
        "1MiB",
        "1.5MiB",
        "6:19: bytes must be a size such as 64KiB, 1MiB, 2GiB (at most 1024GiB), not '1.5MiB'",
    ),
    (
        "1MiB",
        '"1MiB\\n"',
        "6:19: bytes must be a size such as 64KiB, 1MiB, 2GiB (at most 1024GiB), not '1MiB\\n'; "
        "did you mean '1MiB'?",
    ),
    ("1MiB", "-1", "6:19: bytes must be at least 1, not -1"),
    (
        "1MiB",
        "true",
        "6:19: bytes must be an integer or a size such as 64KiB, 1MiB, 2GiB (at most 1024GiB) "
        "or a mapping by link, not true",
    ),
    (
        "1MiB",
        "{default: 1, isaserial: 2}",
        "6:32: unknown link 'isaserial'; allowed: default, vsock, virtio-serial, virtconsole, isa-serial, "
        "serial-proxy, hybrid-vsock; did you mean 'isa-serial'?",
    ),
    (
        "  vsock: {",
        "  vsok: {",
        "8:3: unknown link 'vsok'; allowed: vsock, virtio-serial, virtconsole, isa-serial, serial-proxy, "
        "hybrid-vsock; did you mean 'vsock'?",
    ),
    (
        "multiple-clients",
        "multiple-client",
        "2:8: unknown claim 'multiple-client'; allowed: serial-portable, serial-one-process, "
        "multiple-clients, pod-diagram, host-requirements, kata-config, vmware-guest, high-density, "
        "reliability, other; did you mean 'multiple-clients'?",
    ),
]


SENSE = [
    ("1MiB", "0KiB", "6:19: bytes must be 1 to 1099511627776 (1024GiB), not 0"),
    ("1MiB", "2048GiB", "6:19: bytes must be 1 to 1099511627776 (1024GiB), not 2199023255552"),
    (
        "1MiB",
        "10000000000000000000001",
        "6:19: bytes must be 1 to 1099511627776 (1024GiB), not 10000000000000000000001",
    ),
    (
        "1MiB",
        "10EiB",
        "6:19: bytes must be a size such as 64KiB, 1MiB, 2GiB (at most 1024GiB), not '10EiB'",
    ),
    (
        "1MiB",
        "1TiB",
        "6:19: bytes must be a size such as 64KiB, 1MiB, 2GiB (at most 1024GiB), not '1TiB'; "
        "did you mean '1024GiB'?",
    ),
    (
        "1MiB",
        "1e30",
        "6:19: bytes must be an integer or a size such as 64KiB, 1MiB, 2GiB (at most 1024GiB) or a mapping "
        "by link, not the number 1e+30",
    ),
    ("1MiB", f"0x{'f' * 300}", f"6:19: '0x{'f' * 38}'… (302 characters) is not a number"),
    ("clients: 8", f"clients: {'9' * 5000}", f"4:10: '{'9' * 40}'… (5000 characters) is not a number"),
    (
        "1MiB",
        "{default: 1, isa-serial: 2}",
        "6:32: link 'isa-serial' is not in 'links'; allowed: vsock, virtio-serial",
    ),
    ("1MiB", "{vsock: 1}", "6:12: bytes has neither a value for link 'virtio-serial' nor a default"),
    ("- echo:", "- leave: {}\n  - echo:", "6:5: 'leave' must be the last step"),
    ("workload:\n  - echo: {bytes: 1MiB}\n", "", "4:1: a number of clients needs 'workload' beside it"),
    (
        "echo: {bytes: 1MiB}",
        "ask-and-leave: {bytes: 2MiB}",
        "6:28: bytes must be 1 to 1048576 (1MiB), not 2097152",
    ),
    ("[vsock,", "[vsock, vsock,", "3:16: link 'vsock' a second time"),
    (
        "  virtio-serial: {served: 1, waiting: 7}\n",
        "",
        "3:16: link 'virtio-serial' has no expectation in 'expect'",
    ),
    (", virtio-serial]", "]", "9:3: link 'virtio-serial' is not in 'links'; allowed: vsock"),
    ("served: 8", "served: 9", "8:19: served: 9 of 8 clients cannot be"),
    ("served: 8", "served: 7", "8:10: expect of vsock accounts for 7 of 8 clients: how do the others end?"),
    (
        "served: 8",
        "served: 5, waiting: 5",
        "8:10: expect of vsock accounts for at least 10 of 8 clients",
    ),
    ("served: 8", "served: {min: 5, max: 3}", "8:19: served: min 5 is more than max 3"),
    ("served: 8", "served: {}", "8:19: served needs a number, or 'min', 'max' or both"),
    ("served: 8", "served: {max: 9}", "8:19: served: at most 9 of 8 clients cannot be"),
    ("served: 8", "served: {mn: 8}", "8:20: unknown key 'mn'; allowed: min, max; did you mean 'min'?"),
    ("served: 8", "served: all", "8:19: served must be an integer or a mapping, not 'all'"),
    ("served: 8", "served: 8, waited: 9", "8:30: waited: 9 of 8 clients cannot be"),
    ("served: 1, waiting: 7", "served: 1, waiting: 7, intact: 2", "9:50: intact: 2, but served: 1"),
    (
        "served: 8",
        "srved: 8",
        f"8:11: unknown word or group 'srved'; allowed: {KEYS}, client; did you mean 'served'?",
    ),
    (
        "{served: 8}",
        "{}",
        f"8:10: expect of vsock says nothing of how clients end; allowed: {WORDS}, client",
    ),
    (
        "{served: 8}",
        "8",
        f"8:10: expect of vsock must be a mapping, not the number 8; allowed: {KEYS}, client",
    ),
    (
        "{served: 8}",
        "{served: 8, facts: {client: {second-open: EBUSY}}}",
        "8:38: no step of group 'client' gives the fact 'second-open'; 'open-device' does",
    ),
    (
        "{served: 8}",
        "{served: 8, facts: {client: {second-opn: EBUSY}}}",
        f"8:39: unknown fact 'second-opn'; allowed: {FACTS}; did you mean 'second-open'?",
    ),
    (
        "{served: 8}",
        "{served: 8, facts: {clint: {second-open: EBUSY}}}",
        "8:30: unknown group 'clint'; allowed: client; did you mean 'client'?",
    ),
    (
        "{served: 8}",
        "{served: 8, facts: []}",
        "8:29: facts of expect of vsock must be a mapping by group, not a list; allowed: client",
    ),
]


@each(FORM + SENSE)
def test_one_mistake_in_a_flat_file(tmp_path: Path, mistake: Mistake) -> None:
    says_only(tmp_path, FLAT, mistake)
