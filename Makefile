# Two commands do everything: `make demo` runs the main job on made-up data, `make test` passes the tests.
PY ?= python3
V  ?= .venv
B  := $(V)/bin

.PHONY: setup demo test torture ray peers bench check format lock clean

setup: $(V)/.done
# torch is installed first and pinned, so that nothing later pulls another build of it (docs/decisions/0002).
$(V)/.done: requirements/dev.lock pyproject.toml
	$(PY) -m venv $(V)
	$(B)/pip install -q torch==2.13.0
	$(B)/pip install -q --require-hashes --no-deps -r requirements/dev.lock
	$(B)/pip install -q --no-deps --no-build-isolation -e .
	$(B)/pip check
	touch $@

demo: setup
	$(B)/frugalseg demo --out demo --overwrite

# Two processes with a thread each: most tests start programs of their own and wait for them. In the order of their
# names: left to itself the scheduler takes the files of fewest tests last, which are the longest ones.
test: setup
	OMP_NUM_THREADS=1 $(B)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

# 50 kills at random moments, each run resumed and compared bit for bit with one that was left alone: some minutes.
torture: setup
	$(B)/python -m benchmarks.torture --kills 50

# Ray is an extra: installed here, and the test of a study on two of its workers, one of them killed, is run.
ray: setup
	$(B)/pip install -q "ray>=2.55"
	OMP_NUM_THREADS=1 $(B)/python -m pytest -q tests/study/test_on_ray.py

# The peers (MONAI, torchio, MedPy, surface-distance, nnU-Net) beside this project, in an environment of their own.
peers: .peers/.done
.peers/.done: requirements/dev.lock benchmarks/peers.txt
	$(PY) -m venv .peers
	.peers/bin/pip install -q torch==2.13.0
	.peers/bin/pip install -q --require-hashes --no-deps -r requirements/dev.lock
	.peers/bin/pip install -q -r benchmarks/peers.txt
	.peers/bin/pip install -q --no-deps --no-build-isolation -e .
	touch $@

# Speed and memory beside the peers, about an hour on two cores; `make bench NAMES="step patches"` for some.
bench: peers
	.peers/bin/python -m benchmarks.speed $(NAMES)

check: setup
	$(B)/ruff format --check src tests benchmarks
	$(B)/ruff check src tests benchmarks
	$(B)/mypy
	$(B)/python -m pytest -q tests/test_import_direction.py

format: setup
	$(B)/ruff format src tests benchmarks
	$(B)/ruff check --fix src tests benchmarks

# Needs uv. torch stays out of the lock on purpose: with hashes pip would choose another build of it.
lock:
	links="$${PIP_FIND_LINKS:-$$($(B)/pip config get global.find-links)}"; \
	uv pip compile $${links:+-f "$$links"} --generate-hashes --no-header --no-annotate --no-emit-package torch \
	  --python-version 3.11 requirements/core.in requirements/dev.in -o requirements/dev.lock
	! grep -qE '^(nvidia|cuda|triton)' requirements/dev.lock

clean:
	rm -rf $(V) .peers demo
