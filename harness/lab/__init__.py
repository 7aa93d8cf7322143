"""Hosts that are not this one: the lab and machines reached by SSH."""
