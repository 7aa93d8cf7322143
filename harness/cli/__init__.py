"""The vsock-harness command."""
