"""Every block of docs/nn.md runs and does what the page claims."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from checkout import code_in, run_process

from sensorseq import ChannelScaler
from sensorseq.io.prepared import write_windows
from sensorseq.nn import LSTMLinear
from sensorseq.windows import WindowSet

PAGE = Path(__file__).resolve().parents[2] / "docs" / "nn.md"
BLOCKS = code_in(PAGE.read_text("utf-8"))
(COMPILED,) = (block for block in BLOCKS if "allow_rnn" in block)
(DISTRIBUTED,) = (block for block in BLOCKS if block.startswith("# train.py"))


def run_blocks(blocks):
    torch.manual_seed(0)
    names = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    return names


def test_the_page_runs_unchanged():
    blocks = [block for block in BLOCKS if block not in (DISTRIBUTED, COMPILED)]
    assert len(blocks) == 4
    names = run_blocks(blocks)
    assert names["module"](names["x"]).shape == (8, 5)
    torch.testing.assert_close(names["logits"].reshape(5), names["module"](names["x"][:1])[0])
    assert names["model"].rnn.choice().served_by == "native"
    assert names["model"](names["x"]).shape == (8, 100, 5)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:The .grad attribute", "ignore::DeprecationWarning")
def test_the_switch_that_the_page_names_lets_a_whole_model_compile():
    (tagger,) = (block for block in BLOCKS if "class Tagger" in block)
    with torch._dynamo.config.patch(allow_rnn=False):
        names = run_blocks(["import torch", tagger, COMPILED])
        x = torch.randn(8, 100, 6)
        torch.testing.assert_close(names["compiled"](x), names["model"](x))
        torch._dynamo.config.allow_rnn = False
        torch._dynamo.reset()
        with pytest.raises(torch._dynamo.exc.Unsupported, match="LSTM"):
            torch.compile(names["model"], fullgraph=True)(x)


@pytest.mark.long
def test_two_processes_train_the_same_as_one_on_the_joint_batches(in_tmp_path):
    rng = np.random.default_rng(0)
    y = np.arange(101) % 3
    X = (rng.normal(size=(101, 12, 2)) + 0.5 * y[:, None, None]).astype(np.float32)
    write_windows("terrain.h5", WindowSet(X, y=y, split=np.full(101, "train")))
    script = DISTRIBUTED.replace("range(20)", "range(3)")
    assert script != DISTRIBUTED
    # DistributedDataParallel keeps gloo's threads alive, and a process that ends beside them is
    # aborted now and then by one that asks for the GIL (pytorch/pytorch#179291)
    script += "\nimport os\n\nos._exit(0)\n"
    Path("train.py").write_text(script, "utf-8")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    done = run_process(*command, "2", "train.py", cwd=in_tmp_path, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr

    data, target = torch.from_numpy(ChannelScaler().fit_transform(X)), torch.from_numpy(y)
    torch.manual_seed(0)
    alone = LSTMLinear(2, 64, 3, pooling="meanmax")
    optimizer = torch.optim.Adam(alone.parameters(), lr=1e-3)
    for epoch in range(3):
        order = torch.randperm(len(y), generator=torch.Generator().manual_seed(epoch))
        for rows in order[:96].split(32):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(alone(data[rows]), target[rows]).backward()
            torch.nn.utils.clip_grad_norm_(alone.parameters(), 1.0)
            optimizer.step()
    together = torch.load("lstm.pt")
    for name, weights in alone.state_dict().items():
        torch.testing.assert_close(together[name], weights, rtol=1e-5, atol=1e-5)
