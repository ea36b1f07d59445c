"""The example of docs/input_files.md on DataFrames runs unchanged."""

from checkout import code_in, page_of

PAGE = page_of("input_files.md")


def test_the_example_of_the_page_runs():
    (block,) = code_in(PAGE)
    names = {}
    exec(block, names)
    assert names["clf"].feature_names_in_.tolist() == ["current", "gyro"]
