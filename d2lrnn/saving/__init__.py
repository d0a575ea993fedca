"""Saving: runs and models as files, and what is checked when they are read."""
