# make test   everything that a change must pass
# make lab    the emulated host, for a look round
CARGO ?= cargo
export CARGO_TERM_COLOR ?= auto

.PHONY: test deps fmt clippy unit doc

test: deps fmt clippy unit doc

# Build dependencies of Debian-like machines; says nothing where they are there.
deps:
	@packaging/deps.sh libudev-dev:/usr/include/libudev.h pkg-config:/usr/bin/pkg-config \
		dbus:/usr/bin/dbus-daemon gcc:/usr/bin/cc

fmt:
	$(CARGO) fmt --check

clippy:
	$(CARGO) clippy --locked --all-targets -- -D warnings

unit:
	$(CARGO) test --locked

doc:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps
