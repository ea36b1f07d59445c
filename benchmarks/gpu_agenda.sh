#!/usr/bin/env bash
# What to run when a GPU is at hand, in stages of at most ten minutes each:
#
#   1  build the operators in place, take the first measurements, torch's own LSTM alone
#   2  correctness: tests/gpu
#   3  compute-sanitizer: memcheck, racecheck, synccheck over every variant
#   4  the benchmark on a few shapes, in every precision and mode, and models side by side
#   5  the sweep; each further run goes on where the last one stopped
#
# benchmarks/gpu_agenda.sh [--dry-run] 1 .. 5 | all
#
# Needs torch 2.11 or later, numpy, setuptools, pytest and nvcc, and no network. Results, JSON and
# logs, go to $OUT, or benchmarks/results. A step that fails says so and the next one runs.
# --dry-run does on a CPU what can be done there: it compiles (where nvcc is), collects the tests,
# and runs the same programs on tiny shapes. PYTHON and SENSORSEQ_COMMIT may be set.
set -uo pipefail
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-python3}
OUT=${OUT:-benchmarks/results}
SUMMARY=()
FAILED=0
DRY=
LOG=
STAGE_S=585
STAGE_END=0
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
export KINETO_LOG_LEVEL=5

# step SECONDS NAME COMMAND...: what it says goes to the log and its last lines to the screen. No
# step outlives its stage.
step() {
  local limit=$1 name=$2 said code begin=$SECONDS left=$((STAGE_END - SECONDS))
  shift 2
  if ((left < 5)); then
    summarize "$name" 124 0
    return 124
  fi
  ((limit > left)) && limit=$left
  said=$(mktemp)
  printf '\n== %s: %s\n' "$name" "$*" | tee -a "$LOG"
  timeout --kill-after=10 "$limit" "$@" > "$said" 2>&1
  code=$?
  cat "$said" >> "$LOG"
  grep -v '^USDT:' "$said" | tail -n 30 | cut -c1-200
  rm -f "$said"
  summarize "$name" "$code" $((SECONDS - begin))
  return "$code"
}

summarize() {
  local verdict=ok
  case $2 in
    0) ;;
    skipped) verdict="left out: $3" ;;
    124 | 137) verdict="FAILED: over its time" ;;
    *) verdict="FAILED: exit code $2" ;;
  esac
  [[ $verdict == FAILED* ]] && FAILED=1
  if [[ $2 == skipped ]]; then
    SUMMARY+=("$(printf '%-44s        %s' "$1" "$verdict")")
  else
    SUMMARY+=("$(printf '%-44s %4d s %s' "$1" "$3" "$verdict")")
  fi
}

begin_stage() {
  STAGE_END=$((SECONDS + STAGE_S))
  LOG="$OUT/$1.log"
  : > "$LOG"
}

build() {
  if [[ -n $DRY ]]; then
    step 60 "build: what setup.py would be" env SENSORSEQ_BUILD=ops "$PYTHON" setup.py -q --version
  else
    step 420 "build the operators in place" \
      env SENSORSEQ_BUILD=ops SENSORSEQ_CUDA=1 "$PYTHON" setup.py -q build_ext --inplace
  fi
}

# A later stage may find a machine on which nothing was built.
build_where_missing() {
  compgen -G 'sensorseq/_ops*.so' > /dev/null || build
}

# Compiles the measurements at once, then runs one after the other: they must not share the GPU.
measurements() {
  local folder name names=() compilers=()
  if ! command -v nvcc > /dev/null; then
    if [[ -n $DRY ]]; then
      summarize "first measurements" skipped "there is no nvcc"
    else
      summarize "first measurements: nvcc is missing" 1 0
    fi
    return
  fi
  folder=$(mktemp -d)
  for source in benchmarks/cuda/*.cu; do
    name=$(basename "$source" .cu)
    names+=("$name")
    timeout 150 nvcc -std=c++17 -O3 -gencode=arch=compute_90a,code=sm_90a \
      -Werror all-warnings -Xcompiler -Wall,-Wextra,-Werror -Xptxas -Werror \
      -o "$folder/$name" "$source" > "$folder/$name.log" 2>&1 &
    compilers+=($!)
  done
  for i in "${!names[@]}"; do
    name=${names[$i]}
    if ! wait "${compilers[$i]}"; then
      cat "$folder/$name.log" | tee -a "$LOG"
      summarize "compile $name" 1 0
    elif [[ -n $DRY ]]; then
      summarize "compile $name" 0 0
    fi
  done
  if [[ -z $DRY ]]; then
    for name in "${names[@]}"; do
      [[ -x $folder/$name ]] || continue
      step 60 "measure $name" "$PYTHON" benchmarks/cuda/keep_json.py "$OUT/first.json" "$folder/$name"
    done
  fi
  rm -rf "$folder"
}

stage_1() {
  begin_stage 1_first
  build
  measurements
  step 120 "torch's own LSTM alone" "$PYTHON" benchmarks/bench_cuda.py --table cudnn \
    --budget-s 90 --output "$OUT" $DRY ${DRY:+--limit 1}
}

stage_2() {
  begin_stage 2_tests
  build_where_missing
  # the report must not depend on plugins that happen to be installed
  export PYTEST_DISABLE_PLUGIN_AUTOLOAD=1
  if [[ -n $DRY ]]; then
    step 120 "collect the tests" "$PYTHON" -m pytest tests/gpu --collect-only -q -p no:cacheprovider
  else
    step 580 "tests/gpu" "$PYTHON" -m pytest tests/gpu -q -p no:cacheprovider --durations=10
  fi
  unset PYTEST_DISABLE_PLUGIN_AUTOLOAD
}

stage_3() {
  begin_stage 3_sanitize
  build_where_missing
  local tool sanitizer=compute-sanitizer
  if [[ -n $DRY ]]; then
    step 120 "what the sanitizers run, on the CPU" "$PYTHON" tests/gpu/sanitize.py --device cpu --limit 4
    return
  fi
  command -v $sanitizer > /dev/null || sanitizer=$(dirname "$(command -v nvcc)")/compute-sanitizer
  export PYTORCH_NO_CUDA_MEMORY_CACHING=1
  for tool in memcheck synccheck racecheck; do
    step 190 "compute-sanitizer $tool" "$sanitizer" --tool "$tool" --kernel-regex kns=sensorseq \
      --error-exitcode 9 "$PYTHON" tests/gpu/sanitize.py
  done
  unset PYTORCH_NO_CUDA_MEMORY_CACHING
}

stage_4() {
  begin_stage 4_quick
  build_where_missing
  step 400 "a few shapes, every precision and mode" "$PYTHON" benchmarks/bench_cuda.py --quick \
    --budget-s 360 --output "$OUT" $DRY ${DRY:+--limit 1}
  step 180 "models side by side" "$PYTHON" benchmarks/bench_cuda.py --table models --output "$OUT" $DRY
}

stage_5() {
  begin_stage 5_sweep
  build_where_missing
  if [[ -z $DRY && ! -f $OUT/cuda.json && -f benchmarks/results/cuda.json ]]; then
    cp benchmarks/results/cuda.json "$OUT" # goes on from there
  fi
  step 590 "the sweep" "$PYTHON" benchmarks/bench_cuda.py --resume --budget-s 540 \
    --output "$OUT" $DRY ${DRY:+--limit 2}
}

main() {
  local stages=()
  for argument in "$@"; do
    case $argument in
      --dry-run) DRY=--dry-run ;;
      all) stages+=(1 2 3 4 5) ;;
      [1-5]) stages+=("$argument") ;;
      *)
        echo "unknown: $argument; expected 1 to 5 or all, and --dry-run before" >&2
        return 2
        ;;
    esac
  done
  if [[ ${#stages[@]} == 0 ]]; then
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' benchmarks/gpu_agenda.sh
    return 2
  fi
  if ! mkdir -p "$OUT"; then
    return 1
  fi
  OUT=$(cd "$OUT" && pwd)
  for stage in "${stages[@]}"; do
    printf '\n==== stage %s\n' "$stage"
    "stage_$stage"
  done
  printf '\n%s\n' "---- summary${DRY:+ of a dry run: nothing ran on a GPU}"
  printf '%s\n' "${SUMMARY[@]}"
  return "$FAILED"
}

main "$@"
