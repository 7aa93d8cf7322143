"""What is measured on the host where VMs run. Sent there alone: it imports nothing of `tests` outside it."""
