"""Chapters: reading a chapter's source, running its cells, and keeping what came of it."""
