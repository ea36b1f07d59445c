"""The report as data, and how it is shown: text, page, pictures."""
