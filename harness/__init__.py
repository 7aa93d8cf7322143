"""vsock-harness: real QEMU VMs, multi-client vsock checked against single-client serial ports."""
