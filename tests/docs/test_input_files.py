"""What docs/input_files.md shows of DataFrames runs as it stands."""

from checkout import code_in, page_of

PAGE = page_of("input_files.md")


def test_the_example_of_the_page_runs():
    (block,) = code_in(PAGE)
    known = {}
    exec(block, known)
    assert known["clf"].feature_names_in_.tolist() == ["current", "gyro"]
