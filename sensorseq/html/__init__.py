"""Building blocks of the HTML pages: one style sheet and inline SVG."""
