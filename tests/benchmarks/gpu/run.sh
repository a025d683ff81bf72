#!/usr/bin/env bash
# All measurements on one GPU, one part after another, or the parts that are named; see README.md.
#
#   bash tests/benchmarks/gpu/run.sh [--tiny] [pairs] [samplers] [large] [sampling] [checkpoints] [resume]
#
#   PYTHON      what runs the zoo (python3)          TRL_PYTHON  what runs TRL (the same)
#   WHEELS      the folder of wheels (wheels)        OUT         where results go (gpu-results)
set -euo pipefail
cd "$(dirname "$0")/../../.."
here=tests/benchmarks/gpu
export PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 TOKENIZERS_PARALLELISM=false
python=${PYTHON:-python3} trl=${TRL_PYTHON:-${PYTHON:-python3}} out=${OUT:-gpu-results}
mkdir -p "$out"

tiny=() name=results.json
if [ "${1:-}" = --tiny ]; then
  tiny=(--tiny) name=tiny-results.json
  export OMP_NUM_THREADS=1
  shift
fi
parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(pairs samplers large sampling checkpoints resume)

# A bare machine: wheels that are missing, and the distributions of this repository as they stand here.
if ! "$python" -c "import zoo_core, zoo_harness, zoo_ppo" 2>/dev/null; then
  missing=$("$python" "$here/missing.py")
  if [ -n "$missing" ]; then
    # shellcheck disable=SC2086  # one requirement a word
    "$python" -m pip install --quiet --no-index --no-deps --find-links "${WHEELS:-wheels}" $missing
  fi
  # shellcheck disable=SC2046
  "$python" -m pip install --quiet --no-index --no-deps --no-build-isolation \
    $(for folder in . leaderboard harness plugins/*/; do [ -f "$folder/pyproject.toml" ] && echo "-e ./$folder"; done)
fi

run() {
  echo "== $* =="
  local began=$SECONDS
  "$python" "$here/$1.py" "${tiny[@]}" "${@:2}" || echo "$1 FAILED; the next part goes on"
  echo "== $1: $((SECONDS - began)) s =="
}

for part in "${parts[@]}"; do
  case $part in
    pairs) run trainings --python "$trl" --rows sft reward dpo ;;
    samplers) run trainings --python "$trl" --rows grpo rloo ppo --sizes small ;;
    large) run trainings --python "$trl" --rows grpo rloo ppo --sizes large ;;
    sampling) run sampling --python "$trl" ;;
    checkpoints) run checkpoints ;;
    resume) run resume ;;
    *) echo "no such part: $part" >&2; exit 2 ;;
  esac
done
"$python" "$here/table.py" "$out/$name" | tee "$out/table.md"
