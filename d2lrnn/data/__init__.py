"""Data: reading a text, its tokens and vocabulary, and the three iterators over it."""
