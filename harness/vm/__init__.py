"""One virtual machine: its command line, its QMP monitor, its console."""
