import re
import sys
import uuid

import fsspec
import pytest
from preparing import digest, interrupt_at, names_in, prepare_plainly
from small_recordings import write_recordings

from sensorseq.errors import (
    ArgumentError,
    EnvironmentProblemError,
    PreparedFileError,
    RecordingError,
)
from sensorseq.io import remote
from sensorseq.readers import find_recordings, read_recordings


@pytest.fixture
def terrains(tmp_path):
    return write_recordings(tmp_path / "terrains", n_samples=120)


@pytest.fixture
def bucket(terrains, tmp_path):
    """A folder with the recordings in a store; nothing may remain on this machine's disk."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(scratch))
        files = fsspec.filesystem("memory")
        name = f"/bucket-{uuid.uuid4().hex}"
        files.put(str(terrains), f"{name}/logs", recursive=True)
        yield f"memory:/{name}"
        files.rm(name, recursive=True)
    assert names_in(scratch) == []


def files_of(url):
    files, there = fsspec.url_to_fs(url)
    return sorted(name.removeprefix(f"{there}/") for name in files.find(there))


def copy_of(url, tmp_path):
    path = tmp_path / f"{uuid.uuid4().hex}.h5"
    files, there = fsspec.url_to_fs(url)
    files.get_file(there, str(path))
    return path


class TestSameBytes:
    def test_from_a_url_to_a_url(self, terrains, bucket, tmp_path):
        prepare_plainly(terrains, tmp_path / "whole.h5")
        summary = prepare_plainly(f"{bucket}/logs", f"{bucket}/w.h5")
        assert summary.path == f"{bucket}/w.h5"
        assert digest(copy_of(f"{bucket}/w.h5", tmp_path)) == digest(tmp_path / "whole.h5")
        assert [name for name in files_of(bucket) if not name.startswith("logs/")] == ["w.h5"]

    def test_interrupted_and_resumed(self, terrains, bucket, tmp_path):
        stop = interrupt_at("recordings", 5)
        with pytest.raises(KeyboardInterrupt):
            prepare_plainly(f"{bucket}/logs", f"{bucket}/w.h5", progress=stop)
        assert sum(name.startswith("w.h5.parts/") for name in files_of(bucket)) == 5
        assert "w.h5" not in files_of(bucket)
        summary = prepare_plainly(f"{bucket}/logs/", f"{bucket}/w.h5", resume=True)
        assert summary.n_reused == 5
        prepare_plainly(terrains, tmp_path / "whole.h5")
        assert digest(copy_of(f"{bucket}/w.h5", tmp_path)) == digest(tmp_path / "whole.h5")

    def test_without_resume_nothing_is_reused(self, bucket):
        stop = interrupt_at("merge")
        with pytest.raises(KeyboardInterrupt):
            prepare_plainly(f"{bucket}/logs", f"{bucket}/w.h5", progress=stop)
        assert prepare_plainly(f"{bucket}/logs", f"{bucket}/w.h5").n_reused == 0

    @pytest.mark.parametrize(
        ("name", "where", "manifest"),
        [
            ("manifest.csv", "logs", None),
            ("labels.csv", "logs", "labels.csv"),
        ],
    )
    def test_with_a_manifest(self, terrains, bucket, tmp_path, name, where, manifest):
        rows = [f"{s.relative_paths[0]},{s.label}x" for s in find_recordings(terrains)]
        table = terrains / name
        table.write_text("\n".join(["path,label", *rows]))
        files, there = fsspec.url_to_fs(bucket)
        files.put_file(str(table), f"{there}/logs/{name}")
        prepare_plainly(f"{bucket}/{where}", tmp_path / "w.h5", manifest=manifest)
        here = terrains / where.removeprefix("logs").lstrip("/")
        prepare_plainly(here, tmp_path / "whole.h5", manifest=manifest)
        assert digest(tmp_path / "w.h5") == digest(tmp_path / "whole.h5")

    @pytest.mark.parametrize("name", ["", "/sand/run_01.csv"])
    def test_recordings_are_read_into_memory_too(self, terrains, bucket, name):
        far, near = read_recordings(f"{bucket}/logs{name}"), read_recordings(f"{terrains}{name}")
        assert [r.recording_id for r in far] == [r.recording_id for r in near]
        assert all((a.values == b.values).all() for a, b in zip(far, near, strict=True))


class TestProblems:
    def spoil(self, bucket):
        files, there = fsspec.url_to_fs(bucket)
        files.pipe(f"{there}/logs/sand/run_02.csv", b"time,current\n0,a\n")

    def test_a_damaged_recording_is_named_by_its_url(self, bucket, tmp_path):
        self.spoil(bucket)
        named = re.escape(f"{bucket}/logs/sand/run_02.csv")
        with pytest.raises(RecordingError, match=named):
            prepare_plainly(f"{bucket}/logs", tmp_path / "w.h5")

    def test_skipping_it_gives_the_same_bytes_as_for_paths(self, terrains, bucket, tmp_path):
        self.spoil(bucket)
        (terrains / "sand" / "run_02.csv").write_text("time,current\n0,a\n")
        prepare_plainly(f"{bucket}/logs", tmp_path / "w.h5", on_error="skip")
        prepare_plainly(terrains, tmp_path / "whole.h5", on_error="skip")
        assert digest(tmp_path / "w.h5") == digest(tmp_path / "whole.h5")

    def test_a_url_without_files_is_an_error(self, bucket, tmp_path):
        with pytest.raises(RecordingError, match=rf"{bucket}/nowhere: no such folder or file"):
            prepare_plainly(f"{bucket}/nowhere", tmp_path / "w.h5")

    def test_a_folder_that_is_missing_is_an_error_before_anything_is_read(self, terrains, tmp_path):
        with pytest.raises(PreparedFileError, match=r"nowhere/w\.h5\.parts: cannot be read or wri"):
            prepare_plainly(terrains, f"file://{tmp_path}/nowhere/w.h5", progress=pytest.fail)

    def test_an_unknown_kind_of_url_is_an_error(self, tmp_path):
        with pytest.raises(ArgumentError, match="nowhere://y: is not a URL that fsspec can open"):
            prepare_plainly("nowhere://y", tmp_path / "w.h5")

    def test_a_missing_package_is_named(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "s3fs", None)
        with pytest.raises(EnvironmentProblemError, match=r"s3://bucket/logs: .*s3fs"):
            prepare_plainly("s3://bucket/logs", tmp_path / "w.h5")

    def test_a_name_that_points_outside_the_folder_is_an_error(self, bucket, tmp_path, monkeypatch):
        files = fsspec.filesystem("memory")
        monkeypatch.setattr(type(files), "find", lambda self, root: [f"{root}/a/../../x.csv"])
        with pytest.raises(RecordingError, match="is outside the folder; rename it"):
            prepare_plainly(f"{bucket}/logs", tmp_path / "w.h5")

    def test_a_failing_store_stops_the_run_and_the_parts_are_kept(
        self, bucket, tmp_path, monkeypatch
    ):
        def fail(*arguments, **options):
            raise TimeoutError("no answer")

        files = fsspec.filesystem("memory")

        def break_it(at, done, total):
            if (at, done) == ("recordings", 5):
                monkeypatch.setattr(type(files), "get_file", fail)

        with pytest.raises(EnvironmentProblemError, match=r"store cannot be used .*no answer"):
            prepare_plainly(f"{bucket}/logs", f"{bucket}/w.h5", on_error="skip", progress=break_it)
        monkeypatch.undo()
        summary = prepare_plainly(f"{bucket}/logs", f"{bucket}/w.h5", resume=True)
        assert summary.n_reused == 5


@pytest.mark.long
def test_processes_and_workers_share_a_url(terrains, tmp_path):
    """`file://` is used like a store; unlike `memory://`, it is visible to other processes."""
    pytest.importorskip("distributed", reason="the extra [dask] is not installed")
    url = f"file://{tmp_path}"
    prepare_plainly(terrains, tmp_path / "whole.h5")
    prepare_plainly(f"{url}/terrains", f"{url}/w.h5", engine="dask", jobs=2)
    assert digest(tmp_path / "w.h5") == digest(tmp_path / "whole.h5")
    assert names_in(tmp_path) == ["terrains", "w.h5", "whole.h5"]


def test_urls_are_recognized():
    assert remote.is_url("s3://bucket/x")
    assert not remote.is_url("s3:/bucket/x")
    assert not remote.is_url("a/b")
