"""Recordings and prepared files in an S3 bucket, served by moto."""

import uuid

import fsspec
import pytest
from preparing import digest, interrupt_at, prepare_plainly
from small_recordings import write_recordings

from sensorseq.errors import SensorseqError

pytestmark = pytest.mark.peers

pytest.importorskip("s3fs", reason="s3fs is not installed")
moto_server = pytest.importorskip("moto.server", reason="moto[server] is not installed")


@pytest.fixture
def bucket(monkeypatch):
    """Return the address of a bucket that fsspec finds through environment variables."""
    server = moto_server.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    # instances may be connected to a different server
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    name = f"bucket-{uuid.uuid4().hex}"
    fsspec.filesystem("s3").mkdir(name)
    yield f"s3://{name}/fleet"
    server.stop()


def put(folder, url):
    fsspec.url_to_fs(url)[0].put(str(folder), url, recursive=True)


def test_from_s3_to_s3_by_dask_workers(bucket, tmp_path):
    terrains = write_recordings(tmp_path / "terrains")
    prepare_plainly(terrains, tmp_path / "whole.h5")
    put(terrains, f"{bucket}/logs")
    store, there = fsspec.url_to_fs(f"{bucket}/logs")
    name, _, key = there.partition("/")
    for folder in ("", "/Eis"):  # the AWS console marks folders in this way
        store.call_s3("put_object", Bucket=name, Key=f"{key}{folder}/")

    arguments = [f"{bucket}/logs", f"{bucket}/windows.h5"]
    with pytest.raises(KeyboardInterrupt):
        prepare_plainly(*arguments, progress=interrupt_at("recordings", 5))
    files, there = fsspec.url_to_fs(bucket)
    files.invalidate_cache()
    assert len(files.find(f"{there}/windows.h5.parts")) == 5
    assert not files.exists(f"{there}/windows.h5")
    summary = prepare_plainly(*arguments, engine="dask", jobs=2, resume=True)
    assert summary.n_reused == 5
    files.invalidate_cache()
    assert not files.exists(f"{there}/windows.h5.parts")
    files.get_file(f"{there}/windows.h5", str(tmp_path / "far.h5"))
    assert digest(tmp_path / "far.h5") == digest(tmp_path / "whole.h5")


def test_a_missing_bucket_is_an_error(bucket, tmp_path):
    with pytest.raises(SensorseqError, match=r"^s3://nothing/logs: "):
        prepare_plainly("s3://nothing/logs", tmp_path / "w.h5")
    with pytest.raises(SensorseqError, match=r"^s3://nothing/w.h5"):
        prepare_plainly(write_recordings(tmp_path / "t"), "s3://nothing/w.h5", progress=pytest.fail)
