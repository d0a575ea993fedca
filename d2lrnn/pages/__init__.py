"""Figures as text: curves, dots and bars as SVG, and the round numbers of their axes."""
