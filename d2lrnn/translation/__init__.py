"""Translators: sequence to sequence, one model on every backend."""
