import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import joblib
import numpy as np
import pytest
from killing import Program
from preparing import digest, interrupt_at, names_in, prepare_plainly
from sklearn.model_selection import GridSearchCV
from small_recordings import write_recordings

from sensorseq import SensorLSTMClassifier, WindowSet
from sensorseq.errors import ArgumentError, EnvironmentProblemError, RecordingError
from sensorseq.model_selection import cross_validate
from sensorseq.prepare import workers
from sensorseq.prepare.workers import outcomes, worker_pool
from sensorseq.preprocessing import GroupBalancedKFold

distributed = pytest.importorskip("distributed", reason="the extra [dask] is not installed")

KILLABLE = Path(__file__).parents[1] / "support" / "killable_preparations.py"


def start_cluster(n_workers):
    return distributed.LocalCluster(
        n_workers=n_workers, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=50
    )


@pytest.fixture(scope="module")
def cluster():
    """Two worker processes; a killed worker is replaced."""
    with start_cluster(2) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def one_worker():
    """A cluster of one process, which starts faster."""
    with start_cluster(1) as cluster:
        yield cluster


@pytest.fixture
def terrains(tmp_path):
    return write_recordings(tmp_path / "terrains")


def worker_pids(cluster):
    with distributed.Client(cluster, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=60)
        return list(client.run(os.getpid).values())


class TestDask:
    @pytest.mark.long
    def test_only_the_parts_of_a_killed_worker_are_lost(self, cluster, terrains, tmp_path):
        prepare_plainly(terrains, tmp_path / "whole.h5")
        pids = worker_pids(cluster)
        parts, seen, finished = tmp_path / "w.h5.parts", [], {}

        def kill(at, done, total):
            seen.append((at, done))
            if (at, done) == ("recordings", 1):
                os.kill(pids[0], signal.SIGKILL)
                finished.update({p.name: p.stat().st_ino for p in parts.glob("*.part")})
            if (at, done) == ("merge", 0):
                assert finished
                for name, inode in finished.items():
                    assert (parts / name).stat().st_ino == inode  # the file was not created again

        where = {"scheduler": cluster.scheduler_address}
        prepare_plainly(terrains, tmp_path / "w.h5", progress=kill, **where)
        assert digest(tmp_path / "w.h5") == digest(tmp_path / "whole.h5")
        assert names_in(tmp_path) == ["terrains", "w.h5", "whole.h5"]
        assert [done for stage, done in seen if stage == "recordings"] == list(range(13))
        assert pids[0] not in worker_pids(cluster)

    @pytest.mark.long
    def test_the_command_starts_its_own_workers(self, terrains, tmp_path, monkeypatch):
        from sensorseq.cli import run

        prepare_plainly(terrains, tmp_path / "whole.h5")
        monkeypatch.chdir(tmp_path)  # in a process that is not a worker
        command = ["prepare", "terrains", "--window-s", "2", "--hop-s", "1", "-o", "w.h5", "-q"]
        assert run([*command, "--engine", "dask", "-j", "2"]) == 0
        assert digest(tmp_path / "w.h5") == digest(tmp_path / "whole.h5")

    @pytest.mark.long
    def test_an_interrupted_run_ends_its_tasks_and_can_be_resumed(
        self, cluster, terrains, tmp_path
    ):
        where = {"scheduler": cluster.scheduler_address}
        stop = interrupt_at("recordings", 3)
        with pytest.raises(KeyboardInterrupt):
            prepare_plainly(terrains, tmp_path / "w.h5", progress=stop, **where)
        left = names_in(tmp_path / "w.h5.parts")
        assert all(name.endswith(".part") for name in left)
        summary = prepare_plainly(terrains, tmp_path / "w.h5", resume=True, **where)
        assert summary.n_reused == len(left) >= 3
        prepare_plainly(terrains, tmp_path / "whole.h5")
        assert digest(tmp_path / "w.h5") == digest(tmp_path / "whole.h5")

    def test_a_damaged_recording_is_also_named_from_a_worker(self, one_worker, terrains, tmp_path):
        (terrains / "sand" / "run_02.csv").write_text("time,current\n0,a\n")
        where = {"scheduler": one_worker.scheduler_address}
        with pytest.raises(RecordingError, match=r"sand/run_02\.csv"):
            prepare_plainly(terrains, tmp_path / "w.h5", **where)
        prepare_plainly(terrains, tmp_path / "w.h5", on_error="skip", **where)
        prepare_plainly(terrains, tmp_path / "one.h5", on_error="skip")
        assert digest(tmp_path / "w.h5") == digest(tmp_path / "one.h5")

    def test_a_folder_that_a_worker_cannot_access_is_named_before_anything_is_read(
        self, one_worker, tmp_path
    ):
        with (
            pytest.raises(EnvironmentProblemError, match=r"cannot access .*elsewhere; use paths"),
            worker_pool("dask", 1, one_worker.scheduler_address, tmp_path / "elsewhere", tmp_path),
        ):
            pass
        assert names_in(tmp_path) == []


@pytest.mark.parametrize("engine", ["process", "dask"])
@pytest.mark.parametrize(
    "n_kills",
    [pytest.param(3, marks=pytest.mark.long), pytest.param(100, marks=pytest.mark.slow)],
)
def test_a_run_killed_at_random_moments_resumes_to_the_same_bytes(
    cluster, terrains, tmp_path, engine, n_kills
):
    prepare_plainly(terrains, tmp_path / "whole.h5")
    output, rng = tmp_path / "w.h5", np.random.default_rng(n_kills)
    arguments = {"source": str(terrains), "output": str(output), "window_s": 2, "hop_s": 1}
    if engine == "dask":
        arguments["scheduler"] = cluster.scheduler_address
    with Program(KILLABLE) as killable:
        code, whole_s, _ = killable.run(**arguments)
        assert code == 0
        n_killed = 0
        while n_killed < n_kills:
            output.unlink(missing_ok=True)
            code, _, _ = killable.run(rng.uniform(0, whole_s), **arguments)
            if code == 0:  # the run ended before it was killed
                continue
            assert code == -signal.SIGKILL
            n_killed += 1
            if output.exists():  # killed when only the removal of the parts remained
                assert digest(output) == digest(tmp_path / "whole.h5")
            assert killable.run(**arguments, resume=True)[0] == 0
            assert digest(output) == digest(tmp_path / "whole.h5")
            assert names_in(tmp_path) == ["terrains", "w.h5", "whole.h5"]


class TestSearch:
    """Fits on two workers are bit for bit the same as fits in one process."""

    @pytest.fixture
    def windows(self):
        rng = np.random.default_rng(0)
        y = np.arange(40) % 2
        X = np.sin(np.arange(20) * (0.3 + 0.6 * y[:, None])) + 0.1 * rng.normal(size=(40, 20))
        groups = np.char.add("run", (np.arange(40) // 5).astype(str))
        how = {"lengths": np.full(40, 20), "groups": groups, "channels": ("current",)}
        return WindowSet(X[:, :, None].astype(np.float32), y=y, **how)

    @pytest.mark.long
    def test_a_search_and_a_cross_validation(self, cluster, windows):
        clf = SensorLSTMClassifier(hidden_size=4, max_epochs=3, random_state=0, features=None)

        def look():
            folds = GroupBalancedKFold(2)
            search = GridSearchCV(clf, {"learning_rate": [1e-3, 1e-2]}, cv=folds)
            return search.fit(windows, windows.y), cross_validate(clf, windows, cv=2)

        one, scores = look()
        with distributed.Client(cluster), joblib.parallel_config("dask"):
            two, far_scores = look()
        for name in ("mean_test_score", "split0_test_score", "split1_test_score"):
            np.testing.assert_array_equal(one.cv_results_[name], two.cv_results_[name])
        np.testing.assert_array_equal(scores["test_score"], far_scores["test_score"])
        near, far = (search.best_estimator_.predict_proba(windows) for search in (one, two))
        np.testing.assert_array_equal(near, far)


def is_running(process):
    """Return True if a process in /proc has not ended; a zombie has ended."""
    try:
        return "State:\tZ" not in (process / "status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


class TestProblems:
    @pytest.mark.long
    @pytest.mark.parametrize("engine", ["process", "dask"])
    def test_a_recording_that_kills_its_process_ends_the_run_with_a_remedy(self, engine, tmp_path):
        import dask

        allowed = {"distributed.scheduler.allowed-failures": 0}
        with (
            dask.config.set(allowed),
            worker_pool(engine, 2, None, tmp_path, tmp_path) as pool,
            pytest.raises(EnvironmentProblemError, match="killed, perhaps because memory ran"),
        ):
            list(outcomes(pool, os._exit, [9]))

    @pytest.mark.long
    @pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks for processes in /proc")
    def test_workers_of_a_killed_process_end_with_it(self):
        program = """
import os, time
from sensorseq.prepare import workers
from sensorseq.prepare.workers import worker_pool
if __name__ == "__main__":
    with worker_pool("process", 2, None, None, None) as pool:
        first = [pool.submit(os.getpid) for _ in range(2)]
        busy = [pool.submit(time.sleep, 600) for _ in range(3)]
        print(*{future.result() for future in first}, flush=True)
        busy[0].result()
"""
        command = [sys.executable, "-c", program]
        parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        workers = [Path(f"/proc/{pid}") for pid in parent.stdout.readline().split()]
        assert workers
        assert all(worker.exists() for worker in workers)
        parent.kill()
        parent.wait()
        parent.stdout.close()
        until = time.monotonic() + 10
        while any(is_running(worker) for worker in workers):
            assert time.monotonic() < until
            time.sleep(0.05)

    def test_a_scheduler_without_workers_is_an_error(self, tmp_path):
        with start_cluster(0) as cluster:
            address = cluster.scheduler_address
            with (
                pytest.raises(EnvironmentProblemError, match=f"has no workers.*worker {address}"),
                worker_pool("dask", 1, address, tmp_path, tmp_path),
            ):
                pass

    @pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nonsense://x", "?"])
    def test_a_scheduler_that_cannot_be_reached_is_an_error(self, address, tmp_path, monkeypatch):
        monkeypatch.setattr(workers, "_TIMEOUT_S", 0.5)
        with (
            pytest.raises(EnvironmentProblemError, match="no dask scheduler can be reached at"),
            worker_pool("process", 1, address, tmp_path, tmp_path),
        ):
            pass

    @pytest.mark.parametrize("address", ["nonsense://x", "?"])
    def test_a_malformed_address_leaves_no_client_half_open(self, address, tmp_path, monkeypatch):
        # If a half-open client is garbage-collected while another client starts, the process hangs.
        monkeypatch.setattr(distributed, "Client", lambda *_, **__: pytest.fail("a client"))
        with (
            pytest.raises(EnvironmentProblemError, match=re.escape(address)),
            worker_pool("dask", 1, address, tmp_path, tmp_path),
        ):
            pass

    def test_a_connection_that_starts_late_is_tried_again(self, one_worker, tmp_path, monkeypatch):
        connect, tried = distributed.Client, []

        def late(*args, **kwargs):
            tried.append(args)
            assert len(tried) > 1
            return connect(*args, **kwargs)

        monkeypatch.setattr(distributed, "Client", late)
        with worker_pool("dask", 1, one_worker.scheduler_address, tmp_path, tmp_path) as pool:
            assert pool.submit(int, "7").result() == 7

    def test_another_version_on_a_worker_is_an_error(self, one_worker, tmp_path, monkeypatch):
        monkeypatch.setattr(workers, "versions", lambda: {"sensorseq": "9.9"})
        with (
            pytest.raises(
                EnvironmentProblemError, match=r"but this process has 9\.9; install the sam"
            ),
            worker_pool("dask", 1, one_worker.scheduler_address, tmp_path, tmp_path),
        ):
            pass

    def test_a_missing_package_names_the_extra(self, terrains, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "distributed", None)
        with pytest.raises(EnvironmentProblemError, match=r'pip install "sensorseq\[dask\]"'):
            prepare_plainly(terrains, tmp_path / "w.h5", engine="dask")
        assert names_in(tmp_path) == ["terrains"]

    def test_an_unknown_engine_is_an_error(self, terrains, tmp_path):
        with pytest.raises(ArgumentError, match="Known: process, dask"):
            prepare_plainly(terrains, tmp_path / "w.h5", engine="ray")
