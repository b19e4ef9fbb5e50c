# vfio-bindd for nixpkgs: what packaging/deb.sh installs on Debian, at the places
# where NixOS looks for it. `pkgs.callPackage ./package.nix { }` builds it; it needs
# Rust 1.89, and so nixpkgs 25.11 or newer.
{
  lib,
  rustPlatform,
  stdenv,
  buildPackages,
  installShellFiles,
  pkg-config,
  coreutils,
  hwdata,
  systemd,
  udev,
}:

let
  root = ../..;
  # Its own name, so that what is said of the crate is said once.
  crate = (lib.importTOML (root + "/Cargo.toml")).package;
in
rustPlatform.buildRustPackage {
  pname = crate.name;
  inherit (crate) version;

  # What is named here and nothing else: without a flake `target` would come along.
  # Of `benches` and `tests` only the names are needed, which Cargo.toml has.
  src = lib.fileset.toSource {
    inherit root;
    fileset = lib.fileset.unions (
      map (name: root + "/${name}") [
        "Cargo.lock"
        "Cargo.toml"
        "benches"
        "config.example.toml"
        "docs"
        "packaging"
        "src"
        "systemd"
        "tests"
      ]
    );
  };

  cargoLock.lockFile = root + "/Cargo.lock";

  nativeBuildInputs = [
    installShellFiles
    pkg-config
  ];
  buildInputs = [ udev ];

  # There is no /usr on NixOS. /sbin/modprobe stays as it is: a running NixOS has no
  # /lib/modules, so that systemd is asked to load modules, and both kinds of initrd
  # have it there, where a path of the store might not be.
  postPatch = ''
    substituteInPlace systemd/vfio-bindd.service \
      --replace-fail /usr/bin/vfio-bindd $out/bin/vfio-bindd \
      --replace-fail /bin/kill ${lib.getExe' coreutils "kill"}
    substituteInPlace systemd/vfio-bindd-helper.service \
      --replace-fail /usr/bin/vfio-bindd $out/bin/vfio-bindd
    substituteInPlace systemd/vfio-bindd-early.service \
      --replace-fail /usr/bin/vfio-bindctl $out/bin/vfio-bindctl
    substituteInPlace packaging/udev/60-vfio-bindd.rules packaging/libvirt/hook \
      --replace-fail /usr/bin/vfio-bindctl $out/bin/vfio-bindctl
    substituteInPlace src/kernel/modules.rs \
      --replace-fail '"/bin/systemctl"' '"${lib.getExe' systemd "systemctl"}"'
    substituteInPlace src/kernel/names.rs \
      --replace-fail '"/usr/share/hwdata/pci.ids"' '"${hwdata}/share/hwdata/pci.ids"'
  '';

  # The unit tests; `make test` has the others.
  cargoTestFlags = [ "--lib" ];

  postInstall = ''
    # For an initrd only, as on Debian.
    install -d $out/lib/vfio-bindd
    mv $out/bin/vfio-bindd-early $out/lib/vfio-bindd/early

    # The module has libvirt call it.
    install -m 0755 packaging/libvirt/hook $out/lib/vfio-bindd/libvirt-hook

    # Not here: the units and the hookscript for Proxmox VE, which NixOS is not, the
    # hooks of initramfs-tools and dracut, which it does not have, and what the module
    # does by options: modules to load, and the drop-ins for microvm.nix.
    rm $out/bin/vfio-bindd-hook
    for unit in vfio-bindd.service vfio-bindd-early.service \
        vfio-bindd-helper.service vfio-bindd-helper.socket; do
      install -D -m 0644 systemd/$unit $out/lib/systemd/system/$unit
    done
    install -D -m 0644 -t $out/lib/udev/rules.d packaging/udev/*.rules
    install -D -m 0644 packaging/org.vfiobindd1.conf \
      $out/share/dbus-1/system.d/org.vfiobindd1.conf
    install -D -m 0644 packaging/org.vfiobindd1.policy \
      $out/share/polkit-1/actions/org.vfiobindd1.policy
    install -D -m 0644 -t $out/share/doc/vfio-bindd/docs docs/*.md
    install -D -m 0644 -t $out/share/doc/vfio-bindd/examples config.example.toml
    installManPage packaging/man/*.[1-8]
  ''
  # The program prints them itself, so it, or one for this machine, must run here.
  + lib.optionalString (stdenv.hostPlatform.emulatorAvailable buildPackages) ''
    for shell in bash zsh fish; do
      ${stdenv.hostPlatform.emulator buildPackages} $out/bin/vfio-bindctl completions $shell \
        >vfio-bindctl.$shell
    done
    installShellCompletion vfio-bindctl.{bash,zsh,fish}
  '';

  meta = {
    inherit (crate) description;
    license = with lib.licenses; [
      asl20
      mit
    ];
    mainProgram = "vfio-bindctl";
    platforms = lib.platforms.linux;
  };
}
