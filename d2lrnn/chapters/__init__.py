"""Chapters: reading a chapter's source, running its cells, and reporting or saving the results."""
