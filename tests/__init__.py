"""The tests of vsock-harness."""
