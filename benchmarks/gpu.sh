#!/usr/bin/env bash
# The table of benchmarks/gpu.py, on the first GPU, in at most eight minutes; `pip install bitsandbytes` adds QLoRA.
set -euo pipefail
cd "$(dirname "$0")/.."
devices=${CUDA_VISIBLE_DEVICES:-0}
CUDA_VISIBLE_DEVICES=${devices%%,*} timeout 480 python -m benchmarks.gpu "$@"
