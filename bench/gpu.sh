#!/usr/bin/env bash
# All that a GPU decides, in one call without a network: build, tests, compute-sanitizer, benchmarks.
# Writes bench/results/<device>.json. PYTHON: an interpreter with torch for CUDA (python3). Packages that it lacks are
# taken from wheels in .whl/, if there is such a folder. The time limits of its
# parts add up to about eight minutes; the build comes on top.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
out=${OUT:-build/gpu}
mkdir -p "$out"

if compgen -G ".whl/*.whl" >/dev/null; then
  "$python" -m pip install -q --no-index --no-deps --no-compile --upgrade --target build/site .whl/*.whl
  export PYTHONPATH="$PWD/build/site${PYTHONPATH:+:$PYTHONPATH}"
fi
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
unset TRITON_INTERPRET

echo "== build"
capability=$("$python" -c "import torch; print('%d%d' % torch.cuda.get_device_capability())")
cmake -S . -B build/gpu-build -G Ninja -DLMAPS_FAST_CUDA=1 -DCMAKE_CUDA_ARCHITECTURES="$capability" \
  -Dpybind11_DIR="$("$python" -m pybind11 --cmakedir)" -DPython_EXECUTABLE="$(command -v "$python")" >"$out/build.log"
cmake --build build/gpu-build >>"$out/build.log" || { tail -40 "$out/build.log"; exit 1; }
cp build/gpu-build/_C*.so lmaps_fast/
# setup.py maps kernels/ and bench/race/ into the package; without an installation links do.
links=()
trap 'rm -f "${links[@]}"' EXIT
for target in ../kernels ../bench/race; do
  link=lmaps_fast/$(basename "$target")
  [ -e "$link" ] || { ln -s "$target" "$link"; links+=("$link"); }
done
"$python" -m lmaps_fast info

echo "== tests"
status=0
timeout 150 "$python" -m pytest -p no:cacheprovider --maxfail=20 tests/test_cuda.py tests/test_triton.py \
  2>&1 | tee "$out/tests.log" | tail -40 || status=$?
timeout 100 "$python" -m pytest -p no:cacheprovider --maxfail=20 tests --ignore tests/test_cuda.py \
  --ignore tests/test_triton.py --ignore tests/test_kernel_resources.py --ignore tests/test_packaging.py 2>&1 | tee "$out/suite.log" | tail -15 || status=$?

echo "== compute-sanitizer"
if command -v compute-sanitizer >/dev/null; then
  for tool in memcheck racecheck; do
    timeout 45 compute-sanitizer --tool "$tool" --error-exitcode 9 "$python" bench/sanitize.py \
      >"$out/$tool.log" 2>&1 && echo "$tool: clean" || { echo "$tool: failed"; tail -20 "$out/$tool.log"; status=1; }
  done
else
  echo "compute-sanitizer is not installed: not run"
fi

echo "== benchmarks"
timeout 150 "$python" bench/gpu.py --tests-passed "$([ $status = 0 ] && echo yes || echo no)" || status=$?
cp bench/results/*.json "$out/" 2>/dev/null || true
exit $status
