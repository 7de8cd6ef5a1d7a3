# make search: the whole search on the embedded data. make test, make lint (style and types): for those who change it.
# make study: what every strategy finds beside random search and MCAN; hours, and it resumes. make study SMALL=1: minutes.
# make faults: kills at random moments and broken files by the thousand, counted; minutes.
# make bench: what a step costs against its plain form; make bench SMALL=1: a quick look.
PYTHON ?= python3

search: .venv/installed
	.venv/bin/python launch.py

test: .venv/installed-dev
	.venv/bin/python -m pytest -rs -n 3 --dist worksteal  # three, since much of the time is waiting for NNI

lint: .venv/installed-dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

bench: .venv/installed
	.venv/bin/python -m benchmarks.step $(if $(SMALL),--small)
	.venv/bin/python -m benchmarks.loading $(if $(SMALL),--images 256)

study: .venv/installed
	OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.study $(if $(SMALL),--small)

faults: .venv/installed-dev
	OMP_NUM_THREADS=1 .venv/bin/python -m tests.helpers.faults $(if $(SMALL),--kills 10 --broken 100)

.venv/installed: requirements.txt $(addprefix experiment/manager/,loopback.py loopback.js icons.py)
	@$(PYTHON) experiment/supported.py
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet "$$(grep -o '^torch==[^ ]*' requirements.txt)"
	.venv/bin/pip install --quiet -r requirements.txt
	.venv/bin/python -m experiment.manager.loopback
	@touch $@

.venv/installed-dev: .venv/installed requirements-dev.txt requirements-pictures-dev.txt
	.venv/bin/pip install --quiet -r requirements-dev.txt
	.venv/bin/pip install --quiet --no-deps --upgrade --target .venv/pictures -r requirements-pictures-dev.txt
	@touch $@

.PHONY: search test lint bench study faults
