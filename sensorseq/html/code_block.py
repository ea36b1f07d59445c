"""A code block with a copy button, shown where scripts run."""

from html import escape


def code_block(code: str, name: str = "") -> str:
    """Return a code block.

    Parameters
    ----------
    code : str
        The code.
    name : str, optional
        Identifier on the page; with a name the block has a copy button.
    """
    if not name:
        return f'<pre tabindex="0"><code>{escape(code)}</code></pre>'
    return (
        f'<pre tabindex="0"><code id="code-{name}">{escape(code)}</code></pre><div class="tools">'
        f'<button type="button" data-copies="code-{name}" hidden>copy</button></div>'
    )
