#!/usr/bin/env bash
# Builds every overlay and checks what comes out (check.py), after checking the checks themselves (check_test.py).
# KUBECTL and PYTHON name the programs; README.md says what Python needs.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")"
built=$(mktemp --directory)
trap 'rm -r "$built"' EXIT

for overlay in overlays/*/; do
  name=$(basename "$overlay")
  # What kustomize says beside its output is a warning, such as that a field is deprecated.
  if ! "${KUBECTL:-kubectl}" kustomize "$overlay" > "$built/$name.yaml" 2> "$built/said" || test -s "$built/said"; then
    echo "$overlay: $(< "$built/said")" >&2
    exit 1
  fi
done

export PYTHONDONTWRITEBYTECODE=1
BUILT=$built "${PYTHON:-python3}" check_test.py
"${PYTHON:-python3}" check.py "$built"/*.yaml
