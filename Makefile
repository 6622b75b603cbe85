# `make` lists what there is.
.DEFAULT_GOAL := help
.PHONY: help demo kill-leader stores test torture torture-systemd histories mistakes bench bench-systemd proof proof-page lint deny package dist deb rpm test-deb test-rpm site deps

help: ## Lists the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

demo: ## Runs three etcd members and three replicas here, until Ctrl-C
	@scripts/deps build etcd demo
	@demo/start

kill-leader: ## Kills the demo's leading daemon with kill -9
	@demo/kill-leader

# Most tests wait for a TTL or a grace, so that more of them at once than there are cores keep those busy.
THREADS ?= 8
SLOTS ?= 6

# The etcd of the tests: the one in PATH, or with STORE=3.7 one of those that `make stores` builds.
ifdef STORE
stores := $(abspath $(or $(CARGO_TARGET_DIR),target))/stores
export ETCD := $(stores)/$(STORE)/etcd
export ETCDCTL := $(stores)/$(STORE)/etcdctl
endif

stores: ## Builds etcd 3.5, 3.6, 3.7 and one whose clock is wrong for the tests, where there is Go
	@scripts/stores

# What a shell starts in the background, or nohup does, ignores these, and `incumbent exec` leaves it so.
HEARING := env --default-signal=HUP,INT,QUIT

test: ## Runs all tests, or SUITES="election job", against a real etcd, or STORE=3.7 from `make stores`
	@scripts/stores candidate $(STORE)
	@scripts/deps build etcd
	RUST_TEST_THREADS=$(THREADS) INCUMBENT_TEST_SLOTS=$(SLOTS) \
	$(HEARING) cargo test --no-fail-fast $(SUITES:%=--test %)

MINUTES ?= 10
SEED ?= 1
EXCEPTED ?= 0

torture: ## Throws faults at eleven daemons for MINUTES=10 with SEED=1, and checks every promise
	$(if $(STORE),@scripts/stores $(STORE))
	@scripts/deps build etcd
	cargo build --examples
	INCUMBENT_TORTURE_MINUTES=$(MINUTES) INCUMBENT_TORTURE_SEED=$(SEED) \
	INCUMBENT_TORTURE_EXCEPTED=$(EXCEPTED) INCUMBENT_TORTURE_ALOUD=1 \
	cargo test --test torture -- --nocapture no_fault

torture-systemd: ## Throws faults at four instances of the shipped unit for MINUTES=10 with SEED=1, as root
	@scripts/deps build etcd
	cargo build --examples
	INCUMBENT_TORTURE_MINUTES=$(MINUTES) INCUMBENT_TORTURE_SEED=$(SEED) \
	cargo test --test systemd -- --ignored --nocapture torture::

histories: ## Plays simulated elections for MINUTES=10 from SEED=1 on, and checks every promise
	@scripts/deps build
	INCUMBENT_HISTORIES_MINUTES=$(MINUTES) INCUMBENT_HISTORIES_SEED=$(SEED) \
	cargo test --profile histories -p incumbent --lib -- --nocapture no_history_breaks_a_rule

mistakes: ## Tells in how many simulated elections each planted mistake is caught
	@scripts/deps build
	cargo test --profile histories -p incumbent --lib -- --ignored --nocapture how_soon_mistakes_are_caught

bench: ## Measures hand-overs, faults, memory and CPU time, in about 25 minutes
	@scripts/deps build etcd
	cargo build --release --example recorder
	cargo bench --bench handover

bench-systemd: ## Measures hand-overs and slots under the shipped unit, as root, in about 15 minutes
	@scripts/deps build etcd
	cargo build --release --example recorder
	cargo test --release --test systemd -- --ignored --nocapture bench::

proof: ## Runs torture and both benches, and writes docs/proof.md and its picture from their results
	@$(MAKE) --no-print-directory --keep-going torture bench bench-systemd proof-page

proof-page: ## Writes docs/proof.md and its picture from the results that are there
	cargo run --quiet --example proof -- docs target/handover.json target/systemd.json target/slots.json \
	    target/torture-*.json

lint: ## Checks format, lints and documentation
	@scripts/deps build
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	cargo clippy -p incumbent-election --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps

deny: ## Checks licences, sources and known holes of what we depend on
	@scripts/deny

package: ## Packages both crates as for publishing, and builds each from its package alone
	@scripts/deps build
	@scripts/package

dist: ## Writes man pages and shell completions to target/dist/share, as they lie under /usr/share
	@scripts/deps build
	cargo run --quiet --example dist -- target/dist/share

deb: ## Builds the Debian package, in target/debian
	@scripts/deps build
	@scripts/deb

rpm: ## Builds the RPM package, in target/generate-rpm
	@scripts/deps build
	@scripts/rpm

test-deb: ## Installs, upgrades and removes the Debian package under a real system manager, as root
	@scripts/deps build etcd
	@scripts/deb --fast --deb-version 0.0.1 --output target/debian/older.deb
	@scripts/deb --fast --no-build --deb-version 0.0.2 --output target/debian/newer.deb
	cargo test --test systemd -- --ignored --nocapture package::a_deb

test-rpm: ## Installs, upgrades and removes the RPM package under a real system manager, as root
	@scripts/deps build etcd
	@scripts/rpm --set-metadata 'version = "0.0.1"' --output target/generate-rpm/older.rpm
	@scripts/rpm --set-metadata 'version = "0.0.2"' --output target/generate-rpm/newer.rpm
	cargo test --test systemd -- --ignored --nocapture package::an_rpm

site: ## Builds the pages as a site, in target/site/html
	@scripts/site

deps: ## Installs what building, testing and the demo need
	@scripts/deps build etcd demo
