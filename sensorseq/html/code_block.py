"""Code on a page, with a button that copies it where scripts run."""

from html import escape


def code_block(code: str, name: str = "") -> str:
    """Return code in a box of its own.

    Parameters
    ----------
    code : str
        As it is typed.
    name : str, optional
        What it is called on its page; with one it has a button that copies it.
    """
    if not name:
        return f'<pre tabindex="0"><code>{escape(code)}</code></pre>'
    return (
        f'<pre tabindex="0"><code id="code-{name}">{escape(code)}</code></pre><div class="tools">'
        f'<button type="button" data-copies="code-{name}" hidden>copy</button></div>'
    )
