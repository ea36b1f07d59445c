"""Turn the tutorials into executed notebooks, and into pages of the documentation site.

    make notebooks

For each tutorial, this writes NAME.ipynb and NAME.md, the page with its outputs, to
build/notebooks. The outputs that a tutorial shows as text are left out, because the cells make
them anew; reports are shown as tables and drawings.
"""

import argparse
import base64
import os
import re
import sys
import tempfile
from pathlib import Path

import jupytext
import nbclient

ROOT = Path(__file__).resolve().parents[1]
TUTORIALS = ROOT / "docs" / "tutorials"
SHOWN = re.compile(r"^```text.*?^```\n", re.MULTILINE | re.DOTALL)
# a paragraph that begins with a report: the cell after it displays the report
REPORT = re.compile(r"^(`print\((\w[\w.]*)\)`.*\n(?:.+\n)*)", re.MULTILINE)


def convert(text):
    """Return a tutorial as a notebook that is not executed."""
    text = REPORT.sub(r"\1\n```python\n\2\n```\n", SHOWN.sub("", text))
    notebook = jupytext.reads(text, fmt="md")
    notebook.metadata["kernelspec"] = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    return notebook


def execute(notebook):
    """Execute a notebook with this Python, in a temporary folder."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # for `sensorseq`
    with tempfile.TemporaryDirectory() as folder:
        client = nbclient.NotebookClient(
            notebook,
            timeout=600,
            resources={"metadata": {"path": folder}},
            extra_arguments=["--log-level=ERROR"],
        )
        client.execute(env={**os.environ, "PATH": path, "MPLBACKEND": "agg"})


def as_page(notebook, name):
    """Return an executed notebook as Markdown, with links as in the folder of the tutorials."""
    title = notebook.cells[0].source.partition("\n")[0].strip("# ")
    parts = [f'---\ntitle: "Executed: {title}"\n---']
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            links = re.sub(r"\]\((?!http|#)", "](../docs/tutorials/", cell.source)
            parts.append(links.replace("docs/tutorials/../", "docs/"))
            continue
        language, source = "python", cell.source
        if source.startswith("%%sh\n"):
            language, source = "sh", source.removeprefix("%%sh\n")
        parts.append(f"```{language}\n{source}\n```")
        parts += map(_as_markdown, cell.outputs)
    parts.append(f"[This page as a notebook]({name}.ipynb)\n")
    return "\n\n".join(filter(None, parts))


def _as_markdown(output):
    if output.output_type == "stream":
        return f"```text\n{output.text.rstrip()}\n```" if output.name == "stdout" else ""
    if html := output.data.get("text/html"):
        # an encoded page of its own keeps the styles of the report and of the site apart
        code = base64.b64encode(
            f"<style>body {{ font: 15px sans-serif }}</style>{html}".encode()
        ).decode()
        return (
            f'<iframe src="data:text/html;charset=utf-8;base64,{code}" title="report"'
            ' style="width: 100%; height: 32rem; border: 0"></iframe>'
        )
    return f"```text\n{output.data['text/plain']}\n```"


def main():
    """Write the notebooks and the pages of all tutorials, or of those that are named."""
    names = sorted(path.stem for path in TUTORIALS.glob("*.md") if path.stem != "README")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "notebooks")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(names))
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name in arguments.names or names:
        print(f"executing {name}", flush=True)
        notebook = convert((TUTORIALS / f"{name}.md").read_text("utf-8"))
        execute(notebook)
        jupytext.write(notebook, arguments.output / f"{name}.ipynb")
        (arguments.output / f"{name}.md").write_text(as_page(notebook, name), "utf-8")
    print(f"wrote {arguments.output}; `make docs` takes them into the site")


if __name__ == "__main__":
    main()
