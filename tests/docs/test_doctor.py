"""docs/doctor.md names the checks that there are, and its example runs."""

import re

from checkout import code_in, page_of

PAGE = page_of("doctor.md")


def test_the_page_names_every_check_and_its_example_passes(capsys):
    text = PAGE
    (block,) = code_in(text)
    names = {}
    exec(block, names)
    told = re.findall(r"^\| `(\w+)` \|", text, re.M)
    assert told == [result.name for result in names["diagnosis"].results]
    assert capsys.readouterr().out.startswith("9 checks: 9 passed, 0 failed, 0 not possible")
