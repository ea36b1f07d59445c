"""HTML pages: Jinja templates, one style sheet, one script, and inline SVG."""
