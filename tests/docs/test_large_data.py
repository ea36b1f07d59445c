"""What docs/large_data.md shows runs as it stands."""

from checkout import code_in, page_of

PAGE = page_of("large_data.md")


def test_the_examples_of_the_page_run_one_after_another():
    blocks = code_in(PAGE)
    assert len(blocks) == 2
    known = {}
    for block in blocks:
        exec(block, known)
