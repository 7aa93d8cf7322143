"""A scenario on one link: clients as processes, gathered into one trace."""
