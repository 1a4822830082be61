# `make demo` and `make test` do all the set-up themselves; see README.md.

PREFIX ?= /usr/local
DESTDIR ?=
# Where dracut and initramfs-tools look; they know no /usr/local.
INITRD_PREFIX ?= /usr
SECONDS_PER_FUZZ_TARGET ?= 60
CARGO ?= cargo
# Names the binary answers to.
NAMES = systemd-repart systemd-dissect systemd-vpick mount.ddi veritysetup integritysetup
# The same, for programs that only units start.
UNIT_NAMES = systemd-growfs systemd-makefs systemd-validatefs systemd-veritysetup systemd-integritysetup

.PHONY: build demo test guest-test check bench fuzz peer-test install install-initrd clean

build:
	@scripts/setup build
	$(CARGO) build --release --locked -p ddi

demo: build
	@scripts/demo

test:
	@scripts/setup test
	@scripts/check
	@scripts/test

# Only what runs in kernels of its own; part of `make test`.
guest-test:
	@scripts/setup test
	$(CARGO) test --workspace --locked --test 'guests*'

check:
	@scripts/setup test
	@scripts/check

bench: build
	@scripts/setup test
	@scripts/bench

fuzz:
	@scripts/setup fuzz
	@scripts/fuzz $(SECONDS_PER_FUZZ_TARGET)

peer-test:
	@scripts/setup test
	@scripts/peer-test

install: build
	install -Dm755 target/release/ddi $(DESTDIR)$(PREFIX)/bin/ddi
	for name in $(NAMES); do ln -sf ddi $(DESTDIR)$(PREFIX)/bin/$$name; done
	install -d $(DESTDIR)$(PREFIX)/lib/systemd
	for name in $(UNIT_NAMES); do ln -sf ../../bin/ddi $(DESTDIR)$(PREFIX)/lib/systemd/$$name; done
	target/release/ddi documents target/documents
	install -d $(DESTDIR)$(PREFIX)/share/man/man1
	install -m644 target/documents/man/*.1 $(DESTDIR)$(PREFIX)/share/man/man1/
	install -d $(DESTDIR)$(PREFIX)/share/bash-completion/completions
	for name in ddi $(NAMES); do \
		install -m644 target/documents/completions/$$name.bash \
			$(DESTDIR)$(PREFIX)/share/bash-completion/completions/$$name; \
	done
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system
	install -m644 packaging/systemd/* $(DESTDIR)$(PREFIX)/lib/systemd/system/

# `ddi repart` in the initrds that are made from now on.
install-initrd:
	install -Dm755 packaging/dracut/95ddi-repart/module-setup.sh \
		$(DESTDIR)$(INITRD_PREFIX)/lib/dracut/modules.d/95ddi-repart/module-setup.sh
	for script in hooks/ddi-repart scripts/local-premount/ddi-repart; do \
		install -Dm755 packaging/initramfs-tools/$$script \
			$(DESTDIR)$(INITRD_PREFIX)/share/initramfs-tools/$$script; \
	done

clean:
	$(CARGO) clean
	rm -rf demo
