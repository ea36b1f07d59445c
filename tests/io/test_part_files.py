"""The folder of finished parts at the end of a run."""

from sensorseq.io.part_files import PartFolder


def test_only_files_that_a_lost_worker_writes_after_the_end_are_removed(tmp_path):
    with PartFolder(tmp_path / "w.h5", keep=False) as folder:
        folder.path_of("a").touch()
        folder.discard()
        assert not folder.path_of("a").exists()
        folder.path_of("a").touch()
        folder.path.joinpath(".a.part.0f.tmp").touch()
    assert list(tmp_path.iterdir()) == []
    with PartFolder(tmp_path / "w.h5", keep=False) as folder:
        folder.path.joinpath("notes.txt").touch()
        folder.discard()
    assert [path.name for path in folder.path.iterdir()] == ["notes.txt"]
