# Everything is set up by these two:
#   make run    both servers in one process on files in ./data, with promotions.csv loaded
#   make test   installs what is missing, then runs every check and every test
#   make bench  installs what is missing, then measures look-ups (bench/README.md); BENCH=load and BENCH=swap measure
#               loads and swaps, ARGUMENTS="--turns 1" is passed on
.PHONY: run test bench check tools clean

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
sudo := $(if $(filter 0,$(shell id -u)),,sudo)

# make run ------------------------------------------------------------------------------------------------------------

run: compiler
	cargo build --release --package tableswap
	target/release/tableswap serve --first-load promotions.csv

# make test -----------------------------------------------------------------------------------------------------------

test: compiler tools check
	# A test that hangs fails, and its name is in what was printed.
	timeout 30m cargo test --workspace

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

tools: database target/tools/usr/bin/promtool
	@command -v curl gzip git > /dev/null || $(MAKE) install PACKAGES="curl gzip git"

# Unpacked and not installed, because the package would start a Prometheus.
target/tools/usr/bin/promtool:
	mkdir -p target/tools
	rm -f target/tools/prometheus_*.deb
	$(sudo) apt-get update --quiet --quiet
	cd target/tools && apt-get download prometheus
	dpkg-deb --extract target/tools/prometheus_*.deb target/tools
	rm target/tools/prometheus_*.deb

.PHONY: install
install:
	$(sudo) apt-get update --quiet --quiet
	$(sudo) env DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --quiet --no-install-recommends $(PACKAGES)

clean:
	cargo clean
