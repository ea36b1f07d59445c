"""Checks the tags of HTML, from a page or a notebook's output, and collects the text."""

from html.parser import HTMLParser

VOID = {"meta", "br", "input"}


class Reader(HTMLParser):
    """Collects tags, attributes and text, and checks that every opened tag is closed."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.attributes, self.texts = [], [], [], []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


def in_notebook(shown):
    """Return the HTML that a notebook displays."""
    return shown._repr_html_()
