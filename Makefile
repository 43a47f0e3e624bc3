# Every command of the project. `make help` lists them.
#
# Settings are environment variables, which make passes on: `make demo PORT=8001 DATA_DIR=/tmp/demo`.

PYTHON ?= python3
VENV ?= .venv
UV_VERSION ?= 0.13
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.NOTPARALLEL:
# Every command starts many processes: without a cache of what was compiled, each compiles all of it again.
unexport PYTHONDONTWRITEBYTECODE
.PHONY: help demo serve test lint bench screenshots lock venv venv-dev chromium

help: ## list the commands
	@echo "Latency Dashboard. Commands:"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14
	@echo "PORT (8000), LISTEN_ADDRESS (127.0.0.1) and DATA_DIR choose where; DATABASE_URL and REDIS_URL name"
	@echo "servers of your own. PYTHON (python3) makes the virtual environment, VENV (.venv) is its folder."

demo: venv ## run everything with four demo features, 28 days of history and live traffic
	@exec $(BIN)/python -m latency_dashboard.serve --demo --ends-with-parent

serve: venv ## run everything, empty at first
	@exec $(BIN)/python -m latency_dashboard.serve --ends-with-parent

test: lint chromium ## run every check and every test, in a real browser too (ARGS="-k word" chooses)
	@$(BIN)/python -m pytest -n 2 --dist loadscope -p tests.plugins.longest_first --doctest-modules \
		-p tests.plugins.no_skips --no-skips tests budgets alerts $(ARGS)

# As in production: the deployment checks look at these, and nothing connects to them.
lint: export DATABASE_URL = postgres://dashboard:secret@127.0.0.1:1/dashboard
lint: export REDIS_URL = redis://127.0.0.1:1/0
lint: export PUBLIC_URL = https://latency.example.org
lint: export TRUST_X_FORWARDED_PROTO = true
lint: export EMAIL_URL = smtp+tls://mail.example.org:587
lint: export SECRET_KEY = not-a-secret-0123456789-abcdefghijklmnopqrstuvwxyz-ABCDEFGHIJ
lint: export KEY_PEPPER = not-a-pepper-0123456789-abcdefghijklmnopqrstuvwxyz-ABCDEFGHIJ
lint: venv-dev ## check style, types, imports, migrations, templates and deployment
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@# Without a cache types take twice as long as all the rest, which is done meanwhile.
	@$(BIN)/mypy manage.py latency_dashboard budgets alerts & types=$$!; \
	trap 'kill $$types' INT TERM; \
	$(BIN)/lint-imports --no-logo && \
	$(BIN)/python -W ignore::RuntimeWarning manage.py makemigrations --check --dry-run && \
	$(BIN)/python manage.py check --deploy --fail-level WARNING && \
	$(BIN)/djlint templates --lint --quiet; \
	rest=$$?; wait $$types && exit $$rest

bench: chromium ## measure what it can take and how it answers (SCALE=large: a hundred million measurements)
	@exec $(BIN)/python -m benchmarks $(ARGS)

screenshots: chromium ## take the pictures of README and docs anew, of a demo of their own
	@$(BIN)/python -m tests.screenshots

lock: venv ## compile the requirements files from pyproject.toml (ARGS=--upgrade for newer versions)
	@$(PIP) install 'uv~=$(UV_VERSION)'
	@$(call compile,requirements.txt,)
	@$(call compile,requirements-embedded.txt,--extra embedded -c requirements.txt)
	@$(call compile,requirements-dev.txt,--extra embedded --extra dev -c requirements.txt)

compile = $(BIN)/python -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
	$(2) $(ARGS) pyproject.toml --output-file $(1)

venv: # the virtual environment, with what it takes to run
	@$(call install,requirements-embedded.txt)

venv-dev: # and with what it takes to test
	@$(call install,requirements-dev.txt)

# What is installed is told by a copy of the lock file, not by its time: a changed lock installs anew, a fresh
# clone beside an old environment does not. What it takes to test includes what it takes to run.
install = \
	{ $(BIN)/python -c '' 2>/dev/null && \
	  { cmp -s $(1) $(VENV)/$(1) || cmp -s requirements-dev.txt $(VENV)/requirements-dev.txt; }; } || { \
		$(make_venv) && \
		echo "Installing packages into $(VENV) …" && \
		$(PIP) install --require-hashes -r $(1) && \
		cp $(1) $(VENV)/$(1); \
	}

make_venv = \
	if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
		if ! $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then \
			echo "Python 3.11 or newer is needed, and $(PYTHON) is not. Name another: make PYTHON=python3.12 …"; \
			exit 1; \
		elif ! $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null; then \
			echo "$(PYTHON) cannot make virtual environments. On Debian and Ubuntu: apt-get install python3-venv"; \
			exit 1; \
		fi; \
		$(PYTHON) -m venv --clear $(VENV); \
	fi

chromium: venv-dev # a browser for the tests
	@$(BIN)/python -m tests.plugins.chromium
