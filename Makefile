# make check  fmt, clippy, tests, doc
# make deb    target/debian/vfio-bindd_*.deb
# make lab    the emulated host, for a look round; RUN=1 ends instead of a shell
# make test   everything that a change must pass: check, and the package in the lab
CARGO ?= cargo
export CARGO
export CARGO_TERM_COLOR ?= auto
# The package that the lab installs.
DEB = VFIO_BINDD_DEB=$$(echo target/debian/vfio-bindd_*.deb)

.PHONY: test check deb lab lab-test deps deps-build deps-deb deps-lab fmt clippy unit doc

test: check lab-test

check: fmt clippy unit doc

# Each installs what is missing on a Debian-like machine, and says nothing where
# everything is there. What gcc only recommends has to be named.
deps-build:
	@packaging/deps.sh gcc:/usr/bin/cc libc6-dev:/usr/include/stdio.h \
		pkg-config:/usr/bin/pkg-config libudev-dev:/usr/include/libudev.h

deps: deps-build
	@packaging/deps.sh dbus:/usr/bin/dbus-daemon mandoc:/usr/bin/mandoc

deps-deb: deps-build
	@packaging/deps.sh dpkg-dev:/usr/bin/dpkg-shlibdeps

deps-lab: deps-deb
	@packaging/deps.sh mmdebstrap:/usr/bin/mmdebstrap e2fsprogs:/sbin/mke2fs \
		qemu-system-x86:/usr/bin/qemu-system-x86_64 qemu-utils:/usr/bin/qemu-img \
		ipxe-qemu:/usr/lib/ipxe/qemu/efi-e1000e.rom

fmt:
	$(CARGO) fmt --check

# The lab is no test of cargo's (Cargo.toml), and so not among all targets; named
# beside them it is passed over.
clippy: deps
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) clippy --locked --test lab -- -D warnings

unit: deps
	$(CARGO) test --locked

doc: deps
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps

deb: deps-deb
	packaging/deb.sh

lab-test: deb deps-lab
	$(DEB) $(CARGO) test --locked --test lab

lab: deb deps-lab
	$(DEB) RUN=$(RUN) $(CARGO) test --quiet --locked --test lab -- --demo
