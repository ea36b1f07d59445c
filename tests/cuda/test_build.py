"""The CUDA part of the build: the output of ptxas, linking, and a build without CUDA."""

import dataclasses
import itertools
import json
import os
import re
import shutil
import subprocess
import sys

import ptxas
import pytest
import sass
import torch
from checkout import run_process

from sensorseq.ops import _extension
from sensorseq.ops.choice import MANY
from sensorseq.ops.cuda_kernels import ALL_KERNELS, OLDEST, is_built_for, kernels_for

_extension.load()
build_cuda = ptxas.load_build_cuda()
FACTS = json.loads(torch.ops.sensorseq.cuda_facts())
ALL_CODES = build_cuda.Toolkit.codes
NOT_BUILT = ptxas.without_cuda(build_cuda) or ptxas.NOT_FOR_ALL
needs_build = pytest.mark.skipif(not FACTS["built"], reason=NOT_BUILT)


@pytest.fixture(scope="module")
def toolkit():
    try:
        return build_cuda.find_toolkit(os.environ)
    except build_cuda.LeftOutError as reason:
        pytest.skip(f"no nvcc: {reason}")


@pytest.fixture(scope="module")
def outputs():
    """Return the output of ptxas; fail if a source was not compiled."""
    if not FACTS["built"] or ptxas.without_cuda(build_cuda):
        pytest.skip(NOT_BUILT)
    for source in build_cuda.SOURCES:
        done = build_cuda.FOLDER / f"{source.stem}.command"
        assert done.exists(), f"{source.name} was not compiled: run `make cuda`"
    return ptxas.of_build(build_cuda)


def test_no_kernel_spills_or_warns(outputs):
    assert {name: output.faults for name, output in outputs.items() if output.faults} == {}


def test_registers_and_shared_memory_of_every_kernel_are_those_of_the_table(outputs):
    table = json.loads(ptxas.TABLE.read_text())
    kernels = ptxas.kernels_of(outputs)
    missing = {name: sorted(rows) for name, rows in table["kernels"].items() if name not in kernels}
    assert missing == {}
    if FACTS["nvcc"] != table["nvcc"]:
        pytest.skip(f"the table is of nvcc {table['nvcc']}, the build of {FACTS['nvcc']}")
    assert kernels == table["kernels"], "if this is meant: python tests/support/ptxas.py --update"


def test_every_recurrent_kernel_is_the_first_choice_of_some_call():
    names = " ".join(
        name for rows in json.loads(ptxas.TABLE.read_text())["kernels"].values() for name in rows
    )
    built = {("fp32", int(size)) for size in re.findall(r"PortableVariant<(\d+)>", names)}
    tensor_core = re.findall(r"(?:Forward|Backward)Variant<(\d), (\d+)>", names)
    built |= {("fp16x3" if planes == "2" else "fp16", int(size)) for planes, size in tensor_core}
    calls = itertools.product(((7, 5), (9, 0)), range(1, 258), (1, MANY), ("fp16x3", "fp16"))
    reached = {kernels[0] for call in calls if (kernels := kernels_for(*call))}
    assert built == reached == ALL_KERNELS


@needs_build
def test_the_runtime_is_inside_and_none_of_its_names_can_be_seen():
    library = str(_extension.load())
    dynamic = subprocess.run(
        ["readelf", "--dynamic", "--wide", library], capture_output=True, text=True, check=True
    ).stdout
    needed = [line for line in dynamic.splitlines() if "(NEEDED)" in line]
    assert any("[libtorch.so]" in line for line in needed), needed
    assert not any("cuda" in line for line in needed), needed
    symbols = subprocess.run(
        ["readelf", "--dyn-syms", "--wide", library], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split()[4:] for line in symbols.splitlines() if "cuda" in line.lower()]
    # all must be undefined, because a name that the library defines would replace torch's
    assert ["WEAK", "DEFAULT", "UND", "aoti_torch_get_current_cuda_stream"] in rows
    assert {row[2] for row in rows} == {"UND"}, rows
    assert all(row[3].startswith("aoti_torch_") for row in rows), rows


@needs_build
def test_the_library_has_the_code_that_its_facts_name():
    if (cuobjdump := sass.find_cuobjdump()) is None:
        pytest.skip(sass.MISSING)
    program, environ = cuobjdump

    def codes(option):
        command = [program, option, _extension.load()]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environ)
        return set(re.findall(r"\.(sm_\w+)\.\w+$", done.stdout, re.MULTILINE))

    wanted = set(FACTS["arch"].split(","))
    assert codes("-lelf") == {code for code in wanted if code.startswith("sm_")}
    assert codes("-lptx") == {f"sm_{c[8:]}" for c in wanted if c.startswith("compute_")}


@needs_build
@pytest.mark.parametrize("op", ["lstm", "lstm_backward", "lstm_linear", "lstm_linear_backward"])
def test_the_op_exists_for_cuda_tensors_with_any_torch(op):
    assert torch._C._dispatch_has_kernel_for_dispatch_key(f"sensorseq::{op}", "CUDA")


def test_the_facts_name_the_compiler_and_no_device_that_torch_does_not_see():
    assert set(FACTS) == {"built", "nvcc", "arch", "driver", "runtime", "devices"}
    assert FACTS["built"] == bool(FACTS["nvcc"])
    assert (
        FACTS["built"]
        == bool(FACTS["arch"] and {*FACTS["arch"].split(",")} <= {*ALL_CODES})
        == (FACTS["runtime"] >= 12080)
    )
    if torch.version.cuda and FACTS["built"]:
        assert len(FACTS["devices"]) == torch.cuda.device_count()
    for device in FACTS["devices"]:
        assert set(device) == {"major", "minor", "n_multiprocessors"}


# ---- reading ptxas


SPILLING = """
extern "C" __device__ float twice(float);
template <int n>
__global__ void __launch_bounds__(1024, 2) Spill(float* out) {
  float kept[n];
#pragma unroll
  for (int i = 0; i < n; ++i) kept[i] = out[i * threadIdx.x];
  __syncthreads();
#pragma unroll
  for (int i = 0; i < n; ++i) out[i * i + kept[(i * 7) % n] > 0] = kept[i] * kept[n - 1 - i];
}
__global__ void Shared(float* out) {
  __shared__ float held[100];
  held[threadIdx.x] = out[threadIdx.x];
  __syncthreads();
  out[threadIdx.x] = held[threadIdx.x + 1];
}
template __global__ void Spill<64>(float*);
"""


@pytest.mark.native
def test_a_spill_is_a_fault_and_shared_memory_is_read(toolkit, tmp_path):
    source = tmp_path / "spilling.cu"
    source.write_text(SPILLING)
    build_cuda.compile_changed(toolkit, [source], tmp_path)
    output = ptxas.read((tmp_path / "spilling.ptxas").read_text())
    assert set(output.kernels) == {"Spill<64> sm_90a", "Shared sm_90a"}
    assert output.kernels["Shared sm_90a"]["shared_bytes"] == 400
    assert output.kernels["Spill<64> sm_90a"]["registers"] <= 32
    assert [fault.split(":")[0] for fault in output.faults] == ["Spill<64> sm_90a"]


ENTRY = "ptxas info    : Compiling entry function '_Z1kPi' for 'sm_90a'\n"
PROPERTIES = "ptxas info    : Function properties for _Z1kPi\n    {}\n"
NO_SPILL = "0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads"
USED = "ptxas info    : Used 8 registers, used 1 barriers, 16 bytes smem\n"


def printed_for(properties):
    return ENTRY + PROPERTIES.format(properties) + USED


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (printed_for(NO_SPILL), None),
        (printed_for(NO_SPILL.replace("0 bytes stack", "8 bytes stack")), "8"),
        (printed_for(NO_SPILL.replace("0 bytes spill st", "4 bytes spill st")), "4"),
        (printed_for(NO_SPILL.replace("0 bytes spill lo", "4 bytes spill lo")), "4"),
        (f"{ENTRY}ptxas info    : (C7510) Potential Performance Loss: serialized\n{USED}", "C7510"),
        (ENTRY + "ptxas warning : something\n" + USED, "something"),
        ("a.cu(3): warning #177-D: variable was declared but never referenced\n", "177"),
    ],
)
def test_faults_are_found(text, fault):
    faults = ptxas.read(text).faults
    assert [fault in found_fault for found_fault in faults] == ([True] if fault else [])


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("plain(int*)", "plain"),
        ("void a::cuda::Forward<64, (a::Pooling)1>(a::B<int>, C)", "Forward<64, (Pooling)1>"),
        ("void a::(anonymous namespace)::K<a::V<2>, true>(a::B<float>)", "K<V<2>, true>"),
    ],
)
def test_a_kernel_has_a_short_name(name, short):
    assert ptxas.short(name) == short


# ---- which files are compiled again


def write(path, text):
    path.write_text(text)
    return path


@pytest.mark.native
def test_only_what_changed_is_compiled_again_headers_included(toolkit, tmp_path, capfd):
    header = write(tmp_path / "of a.h", "constexpr int kValue = 1;\n")
    a = write(tmp_path / "a.cu", '#include "of a.h"\nint A() { return kValue; }\n')
    b = write(tmp_path / "b.cu", "int B() { return 2; }\n")
    folder = tmp_path / "build"

    def compiled(**options):
        capfd.readouterr()
        objects = build_cuda.compile_changed(toolkit, [a, b], folder, **options)
        assert [built.name for built in objects] == ["a.o", "b.o"]
        return [line.split()[1] for line in capfd.readouterr().out.splitlines() if "nvcc" in line]

    assert sorted(compiled()) == ["a.cu:", "b.cu:"]
    assert compiled() == []
    write(header, "constexpr int kValue = 2;\n")
    assert compiled() == ["a.cu:"]
    write(folder / "b.command", "another compiler\n")
    assert compiled() == ["b.cu:"]
    (folder / "a.ptxas").unlink()
    assert compiled() == ["a.cu:"]


@pytest.mark.native
def test_warnings_are_errors_only_on_request_even_in_files_compiled_before(toolkit, tmp_path):
    source = write(tmp_path / "unused.cu", "__global__ void K() { int unused; }\n")
    build_cuda.compile_changed(toolkit, [source], tmp_path)
    with pytest.raises(SystemExit, match=r"nvcc failed on unused\.cu"):
        build_cuda.compile_changed(toolkit, [source], tmp_path, warnings_are_errors=True)
    assert not (tmp_path / "unused.command").exists()  # so the file is compiled again


# ---- with and without nvcc


def run_build(folder, **variables):
    """Do a dry run of the build with only `folder` on PATH."""
    environ = {"PATH": str(folder), **variables}
    return subprocess.run(
        [sys.executable, str(ptxas.ROOT / "build_cuda.py"), "--plan"],
        capture_output=True,
        text=True,
        check=False,
        env=environ,
    )


def pretend_nvcc(folder, version="13.0.88", libraries="/nowhere"):
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / "nvcc"
    script.write_text(
        f"""#!/bin/sh
case $1 in
--version) echo "Cuda compilation tools, release 0, V{version}" ;;
*) echo '#$ LIBRARIES=  "-L{libraries}/stubs" "-L{libraries}"' >&2 ;;
esac
"""
    )
    script.chmod(0o755)


def test_without_nvcc_the_build_reports_once_that_cuda_is_left_out(tmp_path):
    done = run_build(tmp_path)
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "sensorseq: CUDA is left out: there is no nvcc on PATH or in CUDA_HOME."
    ]


@pytest.mark.parametrize("wish", ["SENSORSEQ_CUDA=1", "SENSORSEQ_CUDA_ARCHS=8.6"])
def test_cuda_that_is_wanted_and_cannot_be_built_is_an_error(tmp_path, wish):
    name, _, value = wish.partition("=")
    done = run_build(tmp_path, **{name: value})
    assert done.returncode == 1
    assert f"CUDA is wanted ({wish}) but cannot be built: there is no nvcc" in done.stderr


def test_cuda_that_is_not_wanted_is_left_out(tmp_path):
    pretend_nvcc(tmp_path)
    assert "left out: SENSORSEQ_CUDA=0" in run_build(tmp_path, SENSORSEQ_CUDA="0").stdout
    done = run_build(tmp_path, SENSORSEQ_CUDA="no")
    assert done.returncode == 1
    assert "SENSORSEQ_CUDA is 'no'; expected 0, 1 or nothing" in done.stderr


@pytest.mark.parametrize("value", ["0", "1"])
def test_two_settings_that_contradict_each_other_are_an_error(tmp_path, value):
    done = run_build(tmp_path, SENSORSEQ_CUDA=value, SENSORSEQ_CUDA_ARCHS="8.6")
    assert done.returncode == 1
    assert f"SENSORSEQ_CUDA={value} and SENSORSEQ_CUDA_ARCHS=8.6 contradict" in done.stderr


@pytest.mark.parametrize("version", ["12.7.99", "11.8.89"])
def test_an_old_nvcc_is_left_out_by_name(tmp_path, version):
    pretend_nvcc(tmp_path, version)
    assert f"nvcc is {version}, and 12.8 is needed" in run_build(tmp_path).stdout


def test_an_nvcc_without_its_runtime_is_left_out(tmp_path):
    pretend_nvcc(tmp_path)
    assert "libcudart_static.a is not beside" in run_build(tmp_path).stdout


def test_nvcc_of_cuda_home_precedes_the_one_on_the_path(tmp_path):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "libcudart_static.a").touch()
    pretend_nvcc(tmp_path / "home" / "bin", "12.9.1", tmp_path / "lib")
    pretend_nvcc(tmp_path / "path", "13.1.2", tmp_path / "lib")
    path, home = tmp_path / "path", str(tmp_path / "home")
    built = f"sensorseq: CUDA for {','.join(ALL_CODES)} by nvcc"
    wanted = {"SENSORSEQ_CUDA": "1"}
    assert run_build(path, **wanted).stdout == f"{built} 13.1.2\n"
    assert run_build(path, CUDA_HOME=home, **wanted).stdout == f"{built} 12.9.1\n"
    assert run_build(path, CUDA_HOME=str(path), **wanted).stdout == f"{built} 13.1.2\n"


# ---- for which GPUs


@pytest.fixture
def complete_nvcc(tmp_path):
    """Return a folder with a pretended nvcc that has all its libraries."""
    (tmp_path / "libcudart_static.a").touch()
    pretend_nvcc(tmp_path, libraries=tmp_path)
    return tmp_path


# the CUDA programming guide, section 3.1: which code runs on a GPU of which compute capability
SERVED = {
    "7.5": "sm_75",
    "8.0": "sm_80",
    "8.6": "sm_86",
    "8.7": "sm_86",
    "8.9": "sm_86",
    "9.0": "sm_90,sm_90a",
    "10.0": "sm_100",
    "10.3": "sm_100",
    "12.0": "sm_120",
    "12.1": "sm_120",
    "13.0": "compute_120",
    "8.9,7.5 9.0": "sm_75,sm_86,sm_90,sm_90a",
}


@pytest.mark.parametrize(("named", "codes"), SERVED.items())
def test_named_capabilities_are_served_by_as_few_codes_as_possible(complete_nvcc, named, codes):
    done = run_build(complete_nvcc, SENSORSEQ_CUDA_ARCHS=named)
    assert done.stdout == (
        f"sensorseq: CUDA for {codes} by nvcc 13.0.88; SENSORSEQ_CUDA=1 builds it for all GPUs\n"
    )


@pytest.mark.parametrize("named", ["7.0", "11.0", "86", "sm_86", "8.6;9.0", "9.0a", ","])
def test_a_name_that_is_no_served_capability_is_an_error(complete_nvcc, named):
    done = run_build(complete_nvcc, SENSORSEQ_CUDA_ARCHS=named)
    assert done.returncode == 1
    assert f"SENSORSEQ_CUDA_ARCHS has {named.strip(',')!r}; expected compute cap" in done.stderr


DRIVER = """
static int codes[] = {%s 0};
int cuInit(unsigned flags) { return %d; }
int cuDeviceGetCount(int* n) { *n = sizeof codes / sizeof *codes - 1; return 0; }
int cuDeviceGet(int* gpu, int index) { *gpu = index; return 0; }
int cuDeviceGetAttribute(int* value, int attribute, int gpu) {
  *value = attribute == 75 ? codes[gpu] / 10 : attribute == 76 ? codes[gpu] %% 10 : -1;
  return 0;
}
"""
NO_GPU = "CUDA is left out: no driver reports a GPU; SENSORSEQ_CUDA=1 builds it for all GPUs."


@pytest.mark.parametrize(
    ("gpus", "error", "said"),
    [
        ("90, 89, 90,", 0, "CUDA for sm_86,sm_90,sm_90a by"),
        ("61, 75,", 0, "CUDA for sm_75 by"),
        ("61,", 0, "CUDA is left out: no kernel serves compute capability 6.1."),
        ("", 0, NO_GPU),
        ("90,", 100, NO_GPU),
        (None, 0, NO_GPU),
    ],
)
def test_a_build_is_for_the_gpus_that_the_driver_reports(complete_nvcc, gpus, error, said):
    driver = complete_nvcc / "libcuda.so.1"
    driver.write_text("no library")
    if gpus is not None:
        command = [os.environ.get("CXX", "g++"), "-xc", "-shared", "-fPIC", "-", "-o", str(driver)]
        subprocess.run(command, input=DRIVER % (gpus, error), text=True, check=True)
    done = run_build(
        complete_nvcc, LD_LIBRARY_PATH=str(complete_nvcc), CUDA_VISIBLE_DEVICES="none of them"
    )
    assert done.returncode == 0
    assert said in done.stdout
    everything = run_build(
        complete_nvcc, LD_LIBRARY_PATH=str(complete_nvcc), SENSORSEQ_CUDA="1"
    ).stdout
    assert everything == f"sensorseq: CUDA for {','.join(ALL_CODES)} by nvcc 13.0.88\n"


def test_the_package_expects_code_for_a_gpu_where_the_build_compiles_some(monkeypatch):
    def is_built(codes, capability):
        facts = {"built": True, "arch": ",".join(codes)}
        monkeypatch.setattr(_extension, "cuda_facts", lambda: facts)
        return is_built_for(capability)

    for capability in itertools.product(range(5, 15), range(10)):
        codes = build_cuda.codes_for(capability)
        assert bool(codes) == (is_built(ALL_CODES, capability) and capability >= OLDEST)
        for code in codes:
            assert is_built([code], capability)
    assert not is_built(["sm_86"], (8, 0))
    assert not is_built(["sm_80"], (9, 0))
    assert not is_built(["sm_90a"], (10, 0))


@pytest.mark.native
def test_without_capability_9_0_the_tensor_core_kernels_are_not_compiled(toolkit, tmp_path):
    sources = [p for p in build_cuda.SOURCES if p.stem in ("recurrent_fp16", "tensor_core_tasks")]
    for codes in (("sm_86",), ("sm_90", "sm_90a")):
        only = dataclasses.replace(toolkit, codes=codes)
        command = build_cuda._File(only, sources[0], tmp_path, False).command
        assert ("-DSENSORSEQ_NO_HOPPER" in command) == ("sm_90a" not in codes)
        assert [word for word in command if "gencode" in word] == [
            "-gencode=arch=compute_90a,code=sm_90a"
            if "sm_90a" in codes
            else "-gencode=arch=compute_86,code=sm_86"
        ]
    only = dataclasses.replace(toolkit, codes=("sm_86",))
    objects = build_cuda.compile_changed(only, sources, tmp_path)
    assert [ptxas.read(path.with_suffix(".ptxas").read_text()).kernels for path in objects] == [
        {},
        {},
    ]
    names = [subprocess.check_output(["nm", "-C", path], text=True) for path in objects]
    assert " LaunchBackward<1, 256>(" in names[0].replace("sensorseq::cuda::", "")
    assert " LaunchSlots<Pack<2> >(" in names[1].replace("sensorseq::cuda::", "")


@pytest.mark.native
def test_the_operators_alone_are_built_without_reading_the_metadata(tmp_path):
    # older versions of setuptools, such as those on some GPU machines, refuse this pyproject.toml
    for name in ("setup.py", "build_cuda.py"):
        shutil.copy(ptxas.ROOT / name, tmp_path)
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 5\n")

    def setup(wanted):
        command = [sys.executable, "setup.py", "-q", "--name"]
        return run_process(*command, cwd=tmp_path, SENSORSEQ_BUILD=wanted)

    assert setup("ops").returncode == 0
    assert "invalid pyproject.toml" in setup("").stderr
    assert "SENSORSEQ_BUILD is 'all'; expected ops, core, runtime or nothing" in setup("all").stderr
