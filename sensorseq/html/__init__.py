"""What every page of this package is made of: one style sheet and inline SVG."""
