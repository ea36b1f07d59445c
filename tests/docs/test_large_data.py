"""The code of docs/large_data.md runs unchanged."""

from checkout import code_in, page_of

PAGE = page_of("large_data.md")


def test_the_examples_of_the_page_run_one_after_another():
    blocks = code_in(PAGE)
    assert len(blocks) == 2
    names = {}
    for block in blocks:
        exec(block, names)
