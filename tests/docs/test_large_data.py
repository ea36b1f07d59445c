"""What docs/large_data.md shows runs as it stands."""

import re

from checkout import code_in, page_of

PAGE = page_of("large_data.md")


def test_the_examples_of_the_page_run_one_after_another(capsys):
    blocks = code_in(PAGE)
    assert len(blocks) == 3
    known = {}
    for block in blocks:
        exec(block, known)
    losses = [float(number) for number in re.findall(r"\d+\.\d+", capsys.readouterr().out)]
    assert len(losses) == 5
    assert losses[-1] < losses[0]
