"""The book: what its two editions and the figures need of a tab, as far as no framework is in it."""
