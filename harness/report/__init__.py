"""Terminal table and results folder."""
