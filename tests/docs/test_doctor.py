"""docs/doctor.md names the existing checks, and its example runs."""

import re

from checkout import code_in, page_of

PAGE = page_of("doctor.md")


def test_the_page_names_every_check_and_its_example_passes(capsys):
    text = PAGE
    (block,) = code_in(text)
    names = {}
    exec(block, names)
    named = re.findall(r"^\| `(\w+)` \|", text, re.M)
    assert named == [result.name for result in names["diagnosis"].results]
    assert capsys.readouterr().out.startswith("9 checks: 9 passed, 0 failed, 0 not possible")
