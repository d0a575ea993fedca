"""Pages of HTML that hold all that they show: their style, and figures as SVG."""
