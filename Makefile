# The index of commands. `make` alone lists them.
PYTHON ?= python3
VENV ?= .venv
STATE_DIR ?= .local
SAM_BUILD ?= .aws-sam/local
BIN := $(VENV)/bin
export SAM_CLI_TELEMETRY := 0
export AWS_DEFAULT_REGION ?= eu-central-1
export PYTHONPATH := layers/voting
# By the environment, so that a recipe quotes it whatever is in it.
export STATE_DIR

.DEFAULT_GOAL := help
.PHONY: help venv up down reset test check checkov audit deploy change-set sam-invoke chaos chaos-mutants bench fix lock browser servers wrk

help: ## List the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

venv: $(VENV)/.dev ## Create .venv with all tools, which the other commands do when they need it

up: $(VENV)/.run ## Serve everything on this machine until Ctrl-C (DEMO=1 sends a trickle of votes)
	@$(BIN)/python -m local --state-dir "$$STATE_DIR" $(if $(DEMO),--also "demo=$(BIN)/python -m votectl demo") $(ARGS)

down: ## Stop what `make up` started
	@$(BIN)/python -m local --state-dir "$$STATE_DIR" --down

reset: ## Stop, and forget the local votes
	@$(BIN)/python -m local --state-dir "$$STATE_DIR" --reset

test: $(VENV)/.dev browser servers ## Run the whole suite (ARGS="tests/unit -k queue" some of it)
	@$(BIN)/python $(if $(ARGS),-m pytest $(ARGS),scripts/suite.py)

check: $(VENV)/.dev ## Lint, types, templates; edits nothing
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/sam validate --lint
	@$(BIN)/cfn-lint pipeline/*.yaml
	@$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	@$(BIN)/check-jsonschema --quiet --builtin-schema vendor.dependabot .github/dependabot.yml
	@$(BIN)/python -m pytest -q tests/unit/test_imports.py tests/unit/test_repository.py

sam-invoke: $(VENV)/.dev ## Run FUNCTION=VoteFunction on EVENT=http-post-json in a container, on the stores of a running `make up`
	@$(if $(and $(FUNCTION),$(EVENT)),,echo "make sam-invoke FUNCTION=VoteFunction EVENT=http-post-json (a name in events/, or a file)" >&2; exit 2)
	@$(BIN)/python scripts/sam_local.py --run "$$STATE_DIR/run.json" --build $(SAM_BUILD) invoke $(FUNCTION) --event $(EVENT) $(ARGS)

chaos: $(VENV)/.dev ## Strike the running system with faults and audit what is left (ROUNDS=200 for all, SEED= repeats)
	@$(BIN)/python -m tests.chaos --rounds $(or $(ROUNDS),20) $(if $(SEED),--seed $(SEED)) $(ARGS)

chaos-mutants: $(VENV)/.dev ## Take out one safeguard at a time, and see the chaos suite miss it
	@$(BIN)/python -m tests.chaos.mutants $(ARGS)

bench: $(if $(filter smoke,$(ONLY)),$(VENV)/.dev,$(VENV)/.bench wrk) ## Measure (ONLY="drain results" some of it, ONLY=smoke a little of all); a full run renews docs/benchmarks/README.md
	@$(BIN)/python -m bench $(if $(filter smoke,$(ONLY)),--smoke,$(if $(ONLY),--only $(ONLY))) $(ARGS)

checkov: $(VENV)/.checkov ## Look the template over for what is insecure; .checkov.yaml gives a reason for each check left out
	@$(VENV)/checkov/bin/checkov --config-file .checkov.yaml

audit: $(VENV)/.audit ## Ask the internet for known vulnerabilities of every locked version (ARGS="-s osv" asks OSV in place of PyPI)
	@scripts/audit $(VENV)/audit/bin/pip-audit $(ARGS)

deploy: $(VENV)/.dev ## Check the account (CHECK=0 skips it), build, and deploy the environment ENV of samconfig.toml (dev, prod, club) as a new release
	@$(BIN)/python scripts/deploy.py $(BIN)/sam $(or $(ENV),dev) $(ARGS)

change-set: $(VENV)/.dev ## Have CloudFormation say what a deployment of ENV would change, and change nothing
	@$(BIN)/python scripts/change_set.py $(BIN)/sam $(or $(ENV),dev) $(ARGS)

fix: $(VENV)/.dev ## Format and mend what ruff can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

lock: $(VENV)/.dev ## Pin what requirements name, with hashes (UPGRADE=1 takes the newest versions)
	@scripts/lock $(BIN)/uv $(if $(UPGRADE),--upgrade)

# A stamp per lock file, so that `make up` needs no test tools and a changed lock is noticed.
$(VENV)/.run: requirements/run.txt
	@scripts/venv "$(PYTHON)" $(VENV) $<
	@touch $@

$(VENV)/.dev: requirements/dev.txt
	@scripts/venv "$(PYTHON)" $(VENV) $<
	@touch $(VENV)/.run $@

$(VENV)/.checkov: requirements/checkov.txt
	@mkdir -p $(VENV)
	@scripts/venv "$(PYTHON)" $(VENV)/checkov $<
	@touch $@

$(VENV)/.audit: requirements/audit.txt
	@mkdir -p $(VENV)
	@scripts/venv "$(PYTHON)" $(VENV)/audit $<
	@touch $@

# In addition to what .dev installs. These packages are constrained to its versions.
$(VENV)/.bench: requirements/bench.txt $(VENV)/.dev
	@scripts/venv "$(PYTHON)" $(VENV) $<
	@touch $@

wrk:
	@scripts/wrk

browser: $(VENV)/.dev
	@scripts/browser $(BIN)/python

servers:
	@scripts/servers
