.PHONY: help venv test test-fast run sweeps-sample full lab writeup bench doctor lock clean
PY = .venv/bin/python
PROFILE = sample

help:       ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/ -/'
venv:       ## .venv/ with the locked packages and the sample models; nothing to do once it matches the lock
	@cat requirements.txt requirements-sample-models.txt pyproject.toml | sha256sum | cmp -s - .venv/lock.sha256 || sh scripts/make_venv.sh
test: venv  ## all tests
	$(PY) -m pytest -q -n 2 --dist loadfile tests
test-fast: venv  ## the tests without the slow ones
	$(PY) -m pytest -q -n 2 --dist loadfile -m "not slow" tests
run: venv   ## the sample chain: every notebook, by the workflow engine
	$(PY) -m hw2_utils chain --profile sample
sweeps-sample: venv  ## every sweep in workflow/sweeps with the sample profile, tens of minutes; notebooks show their tables afterwards
	for sweep in workflow/sweeps/*.yaml; do $(PY) -m hw2_utils chain --sweep $$sweep || exit 1; done
full: venv  ## the same with the assignment's models: first what it takes and what is missing here, then the chain
	-@$(PY) -m hw2_utils doctor --profile full
	$(PY) -m hw2_utils chain --profile full
lab: venv   ## JupyterLab on copies of the notebooks in lab/, yours to edit; on this machine only
	$(PY) -m hw2_utils lab
writeup: venv  ## writeup/main.pdf from the profile's runs, where TeX is installed, and writeup/overleaf.zip (PROFILE=full for the assignment's models)
	$(PY) -m hw2_utils writeup --profile $(PROFILE)
bench: venv  ## the measurements of benchmarks/RESULTS.md that need no GPU, half an hour on an idle machine
	for name in embeddings fusion finetune prompting embedding_cache; do \
	  MALLOC_TRIM_THRESHOLD_=1073741824 MALLOC_MMAP_THRESHOLD_=33554432 $(PY) benchmarks/$$name.py || exit 1; done
doctor: venv  ## what the profile needs here, and how to get what is missing
	$(PY) -m hw2_utils doctor --profile $(PROFILE)
lock:       ## choose the newest allowed versions and write requirements.txt again
	.venv/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --extra dev --extra slurm pyproject.toml -o requirements.txt --custom-compile-command "make lock"
clean:      ## remove runs and cached embeddings; what this project didn't make stays and is named
	$(PY) -m hw2_utils clean
