# make demo   a whole pair on this machine, each plug pulled in turn (as root)
# make bench  clusterd beside its peers (as root); ARGS="mirror --quick" and the like, see bench/README.md
# make chaos  a pair, faults by chance, writers on both sides: nothing is lost (as root); SECONDS=600 SEED=7 FAILOVERS=200
# make test   everything that can be tested here (as root: tests make network namespaces)

PREFIX  ?= /usr/local
DESTDIR ?=
CARGO   ?= cargo

# A C compiler and linker for some crates; ip for tests that set up network namespaces by hand; rsync
# judges mirrored trees; nginx serves them in the demo.
PACKAGES = build-essential iproute2 rsync nginx-light

export PATH := $(PATH):$(HOME)/.cargo/bin

.PHONY: all deps demo test soak bench chaos install

all:
	$(CARGO) build --release --locked

# Asks the network only if something is missing. In runlevel 1 no package starts its service
# (invoke-rc.d(8)): the demo's nginx needs none on this machine's port 80.
deps:
	@missing=; \
	for package in $(PACKAGES); do \
		dpkg-query --show --showformat='$${Status}' $$package 2>/dev/null \
			| grep -q ' installed$$' || missing="$$missing $$package"; \
	done; \
	if [ -n "$$missing" ]; then \
		echo "installing:$$missing"; \
		apt-get update && RUNLEVEL=1 apt-get install --yes --no-install-recommends $$missing; \
	fi
	@command -v $(CARGO) >/dev/null \
		|| { echo "cargo is missing: install Rust 1.95 or newer from https://rustup.rs" >&2; exit 1; }

demo: deps
	$(CARGO) build --release --locked
	$(CARGO) run --release --locked --package clusterd-bed

# Tests make file systems on loop devices, set attributes of files and close ports.
test: PACKAGES += attr e2fsprogs nftables xfsprogs
test: deps
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) test --locked

soak: deps
	$(CARGO) build --release --locked
	$(CARGO) run --release --locked --package clusterd-bed -- --rounds 20
	CLUSTERD_FLAPS=10000 CLUSTERD_FLOOD_S=10 $(CARGO) test --release --locked --test pair flood:: -- --nocapture

# keepalived and heartbeat are the peers that are measured beside; without a config in /etc neither service
# runs. stress-ng loads the machine, nft loses beats.
bench: PACKAGES += keepalived heartbeat stress-ng nftables
bench: deps
	$(CARGO) build --release --locked
	$(CARGO) run --release --locked --package clusterd-bench -- $(ARGS)

# The same SEED plans the same faults again; with FAILOVERS it ends after so many.
SECONDS ?= 600
chaos: deps
	$(CARGO) build --release --locked
	$(CARGO) run --release --locked --package clusterd-bench -- chaos --seconds $(SECONDS) \
		$(if $(SEED),--seed $(SEED)) $(if $(FAILOVERS),--failovers $(FAILOVERS))

install: deps
	$(CARGO) install --locked --path . --bin clusterd --bin clusterd-heart --root "$(DESTDIR)$(PREFIX)" --no-track --force
	$(CARGO) install --locked --path bed --root "$(DESTDIR)$(PREFIX)" --no-track --force
	sed 's|/usr/local|$(PREFIX)|' systemd/clusterd.service \
		| install -D -m 644 /dev/stdin "$(DESTDIR)$(PREFIX)/lib/systemd/system/clusterd.service"
	install -D -m 644 udev/60-clusterd.rules "$(DESTDIR)$(PREFIX)/lib/udev/rules.d/60-clusterd.rules"
	install -D -m 644 examples/clusterd.toml "$(DESTDIR)$(PREFIX)/share/doc/clusterd/clusterd.toml"
	for page in clusterd.8 clusterd.toml.5 clusterd-demo.1; do \
		install -D -m 644 man/$$page "$(DESTDIR)$(PREFIX)/share/man/man$${page##*.}/$$page" || exit 1; \
	done
	install -D -m 644 -t "$(DESTDIR)$(PREFIX)/share/doc/clusterd" docs/*.md
	install -D -m 644 hw/CABLING.md "$(DESTDIR)$(PREFIX)/share/doc/clusterd/CABLING.md"
