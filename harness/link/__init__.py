"""Host ends of the links."""
