"""Recipes and the content-addressed cache of what they make."""
