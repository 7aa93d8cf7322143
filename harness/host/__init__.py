"""This host: run folders, processes, CID leases, probes."""
