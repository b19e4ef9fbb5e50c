# Whole systems with module.nix in them, evaluated and not built: eval.sh asks for it.
# `checks` has what must hold, by name; `toplevel` the systems that must come out
# whole; `configs` what the options make of the config.
{
  nixpkgs,
  # A checkout of microvm.nix, or null.
  microvm ? null,
  overlays ? [ ],
}:

let
  lib = import (nixpkgs + "/lib");

  system =
    modules:
    import (nixpkgs + "/nixos/lib/eval-config.nix") {
      system = "x86_64-linux";
      modules = [
        ./module.nix
        {
          nixpkgs.overlays = overlays;
          fileSystems."/" = {
            device = "/dev/disk/by-label/nixos";
            fsType = "ext4";
          };
          boot.loader.systemd-boot.enable = true;
          system.stateVersion = lib.trivial.release;
        }
      ]
      ++ modules;
    };

  on = settings: { services.vfio-bindd = { enable = true; } // settings; };
  gpu.mappings.gpu = {
    match = {
      id = "10de:2684";
      numa = 1;
    };
    functions = "slot";
    expect = 2;
  };
  host = {
    imports = [ (microvm + "/nixos-modules/host") ];
    # What a declared guest adds, without a guest, whose kernel would be evaluated too.
    systemd.services."microvm@web" = {
      overrideStrategy = "asDropin";
      restartIfChanged = false;
    };
  };

  systems = {
    absent = system [ ];
    off = system [ { services.vfio-bindd = gpu; } ];
    plain = system [ (on gpu) ];
    # Most keys of a mapping, each guard and each driver.
    all = system [
      (on {
        mappings = {
          everything = {
            match = [
              {
                id = [
                  "10de:2684"
                  "8086:*"
                ];
                subsystem = "*:88dc";
                class = [
                  "nvme"
                  "0108*"
                ];
                address = "0000:c[1-4]:00.0";
                path = "0000:00:01.1/00.0";
                slot = "7";
                serial = "48-b0-*";
                numa = [
                  0
                  "none"
                ];
                iommu_group = 12;
                kind = [
                  "plain"
                  "pf"
                ];
              }
              {
                vf_of = "enp59s0f0";
                vf = "0,2-7";
              }
            ];
            exclude.serial = "48-b0-2d-ff-ff-12-34-56";
            description = ''quotes " and \ and 'these' '';
            functions = "slot";
            expect = {
              min = 0;
              max = 4;
            };
            take = 1;
            prefer_numa = 1;
            placement = "spread";
            partial = true;
            driver = "auto";
            detach = "never";
            owner = "microvm";
            group = [
              "take"
              "kvm"
            ];
            mode = "0640";
            reset_method = [
              "flr"
              "bus"
            ];
            d3cold = false;
            power = "on";
            resize_bar."0" = "8G";
            allow = [
              "storage"
              "network"
              "console"
              "display"
              "native-gpu"
              "sound"
              "usb"
              "serial"
              "tpm"
              "rtc"
              "ipmi"
              "watchdog"
              "pf-with-vfs"
              "system-class"
              "signature"
              "hung-task-panic"
              "unchecked"
            ];
            proxmox = "gpu0";
          };
        }
        // lib.genAttrs [
          "vfio-pci"
          "mlx5_vfio_pci"
          "nvgrace_gpu_vfio_pci"
          "hisi_acc_vfio_pci"
          "pds_vfio_pci"
          "qat_vfio_pci"
          "virtio_vfio_pci"
          "ism_vfio_pci"
          "xe-vfio-pci"
        ] (driver: {
          inherit driver;
          match.vf_of = "0000:3b:00.0";
          take = "all";
          owner = 107;
          group = 78;
        });
        sriov = {
          uplink = {
            description = "the upper port";
            pf = {
              netdev = "enp59s0f0";
            };
            vfs = 8;
            autoprobe = false;
            vf = [
              {
                mac.base = "52:54:00:a0:00:00";
                spoof_check = true;
              }
              {
                index = "0-3";
                vlan = {
                  id = 100;
                  qos = 3;
                  protocol = "802.1ad";
                };
                rate = 1000;
                link_state = "enable";
              }
              {
                index = 4;
                vlan = 101;
                rate = {
                  min = 100;
                  max = 200;
                };
                trust = true;
              }
            ];
          };
          disk = {
            pf = [ { class = "nvme"; } ];
            vfs = "50%";
          };
        };
        settings = {
          protect.match = [ { address = "0000:00:1f.*"; } ];
          proxmox.sync = false;
        };
        claims.users = [ "microvm" ];
      })
    ];
    libvirt = system [
      (on (gpu // { libvirt.enable = true; }))
      { virtualisation.libvirtd.enable = true; }
    ];
    scripted = system [
      (on (gpu // { earlyInitrd.enable = true; }))
      { boot.initrd.systemd.enable = false; }
    ];
    systemd = system [
      (on (gpu // { earlyInitrd.enable = true; }))
      { boot.initrd.systemd.enable = true; }
    ];
  }
  // lib.optionalAttrs (microvm != null) {
    microvm = system [
      (on gpu)
      host
    ];
    owned = system [
      (on (mapping {
        owner = "microvm";
        group = "kvm";
      }))
      host
    ];
    no-order = system [
      (on (gpu // { microvm.enable = false; }))
      host
    ];
  };

  inherit (lib) hasInfix hasPrefix;
  of = name: systems.${name}.config;
  failed = one: map (a: a.message) (lib.filter (a: !a.assertion) one.config.assertions);
  # Whether the config is an error, be it for a type or for an assertion.
  wrong =
    settings:
    let
      one = system [ (on settings) ];
      done = builtins.tryEval (
        builtins.deepSeq one.config.services.vfio-bindd.settings (failed one != [ ])
      );
    in
    !done.success || done.value;
  mapping = keys: { mappings.gpu = { match.id = "10de:2684"; } // keys; };
  nic = keys: { sriov.nic = { pf.netdev = "enp59s0f0"; vfs = 8; } // keys; };
  # A mapping for each value of that key, in one system: a system takes a second.
  each =
    key: values:
    lib.listToAttrs (
      lib.imap0 (i: value: {
        name = "mapping${toString i}";
        value = {
          match.id = "10de:2684";
          ${key} = value;
        };
      }) values
    );
  # Whether each of the values may be that key's, or by its type none may.
  rights = key: values: !wrong { mappings = each key values; };
  wrongs =
    key: values:
    let
      one = system [ (on { mappings = each key values; }) ];
      bad = mapping: !(builtins.tryEval (builtins.deepSeq mapping null)).success;
    in
    lib.all bad (lib.attrValues one.config.services.vfio-bindd.mappings);
  says = text: messages: lib.any (hasInfix text) messages;
  after = one: unit: one.systemd.services.${unit}.after;
in
{
  toplevel = lib.mapAttrs (_: one: one.config.system.build.toplevel.drvPath) systems;
  configs = lib.mapAttrs (_: one: one.config.services.vfio-bindd.settings) {
    inherit (systems) plain all;
  };
  package = (of "plain").services.vfio-bindd.package.drvPath;

  checks = {
    "disabled changes nothing" =
      (of "off").system.build.toplevel.drvPath == (of "absent").system.build.toplevel.drvPath;
    "no assertion of a good config fails" = lib.all (one: failed one == [ ]) (
      lib.attrValues systems
    );

    "the config is what was said, and no more" =
      (of "plain").services.vfio-bindd.settings == {
        mapping.gpu = {
          match = {
            id = "10de:2684";
            numa = 1;
          };
          functions = "slot";
          expect = 2;
        };
      };
    "it is in /etc" = (of "plain").environment.etc ? "vfio-bindd/config.toml";
    "a change of it reloads the daemon" =
      (of "plain").systemd.services.vfio-bindd.reloadTriggers == [
        (of "plain").environment.etc."vfio-bindd/config.toml".source
      ];
    "the units are additions to those of the package" =
      let
        one = of "plain";
        units = one.systemd.units;
      in
      lib.elem one.services.vfio-bindd.package one.systemd.packages
      && units."vfio-bindd.service".wantedBy == [ "multi-user.target" ]
      && units."vfio-bindd-early.service".wantedBy == [ "sysinit.target" ]
      && !hasInfix "ExecStart" units."vfio-bindd.service".text
      && hasInfix "X-RestartIfChanged=false" units."vfio-bindd-early.service".text;
    "udev, D-Bus and polkit have the package" =
      let
        one = of "plain";
        has = lib.elem one.services.vfio-bindd.package;
      in
      lib.any (hasPrefix "${one.services.vfio-bindd.package}") (map toString one.services.udev.packages)
      && has one.services.dbus.packages
      && has one.environment.systemPackages;
    "who may claim has a rule" =
      (of "all").security.polkit.enable
      && hasInfix ''["microvm"].indexOf(subject.user)'' (of "all").security.polkit.extraConfig
      && !hasInfix "vfiobindd1" (of "plain").security.polkit.extraConfig;

    "libvirt calls the hook of the system that runs" =
      let
        one = of "libvirt";
      in
      one.virtualisation.libvirtd.hooks.qemu.vfio-bindd
      == "/run/current-system/sw/lib/vfio-bindd/libvirt-hook"
      && lib.elem "/lib/vfio-bindd" one.environment.pathsToLink
      && hasInfix "sw/lib/vfio-bindd/libvirt-hook /var/lib/libvirt/hooks/qemu.d/vfio-bindd" one.systemd.services.libvirtd-config.script
      && (of "plain").virtualisation.libvirtd.hooks.qemu == { };
    "a user and a group that are not declared are told of" =
      let
        told =
          (system [
            (on (mapping {
              owner = "microvn";
              group = [
                "take"
                "kvn"
              ];
            }))
          ]).config.warnings;
      in
      says "no user `microvn` is declared" told && says "no group `kvn` is declared" told;
    "others are not" =
      !says "is declared" (system [
        (on {
          mappings = {
            names = {
              match.id = "10de:2684";
              owner = "root";
              group = "kvm";
            };
            numbers = {
              match.id = "10de:2685";
              owner = "0107";
              group = 107;
            };
            rule = {
              match.id = "10de:2686";
              group = "refuse";
            };
          };
        })
      ]).config.warnings;

    "without the option the initrd has nothing of it" =
      !hasInfix "vfio" (of "plain").boot.initrd.preDeviceCommands
      && !((of "plain").boot.initrd.systemd.services ? vfio-bindd-initrd);
    "a scripted initrd" =
      let
        initrd = (of "scripted").boot.initrd;
      in
      hasInfix "vfio-bindd-early || true" initrd.preDeviceCommands
      && hasInfix "/lib/vfio-bindd/early" initrd.extraUtilsCommands
      && lib.elem "vfio_pci" initrd.availableKernelModules
      && !(initrd.systemd.services ? vfio-bindd-initrd);
    "an initrd with systemd" =
      let
        initrd = (of "systemd").boot.initrd;
        unit = initrd.systemd.units."vfio-bindd-initrd.service";
      in
      hasInfix "/lib/vfio-bindd/early" unit.text
      && hasInfix "Before=systemd-udev-trigger.service" unit.text
      && hasInfix "DefaultDependencies=false" unit.text
      && unit.wantedBy == [ "sysinit.target" ]
      && initrd.systemd.contents ? "/etc/vfio-bindd/config.toml"
      && lib.any (path: hasInfix "/lib/vfio-bindd/early" "${path.source or path}") initrd.systemd.storePaths
      && lib.elem "vfio_pci" initrd.availableKernelModules
      && initrd.preDeviceCommands == "";
    "a GPU's driver that a scripted initrd loads first is told of" =
      says "amdgpu" (system [
        (on (gpu // { earlyInitrd.enable = true; }))
        {
          boot.initrd.systemd.enable = false;
          boot.initrd.kernelModules = [ "amdgpu" ];
        }
      ]).config.warnings;
    "IDs for vfio-pci are told of" =
      says "vfio-pci IDs" (system [
        (on gpu)
        { boot.kernelParams = [ "vfio-pci.ids=10de:2684" ]; }
      ]).config.warnings;
    "an IOMMU that is off is an error" =
      says "intel_iommu=off" (failed (system [
        (on gpu)
        { boot.kernelParams = [ "intel_iommu=off" ]; }
      ]));

    "a good mapping is none" = !wrong (mapping { });
    "a mapping without match" = wrong { mappings.gpu.functions = "slot"; };
    "an empty selector" = wrong { mappings.gpu.match = { }; };
    "an empty selector in a list" = wrong { mappings.gpu.match = [ { } ]; };
    "a list of no selector" = wrong { mappings.gpu.match = [ ]; };
    "an unknown term" = wrong { mappings.gpu.match.idd = "10de:2684"; };
    "half an ID" = wrong { mappings.gpu.match.id = "10de"; };
    "an unknown key" = wrong (mapping { functionz = "slot"; });
    "another word" = wrong (mapping { functions = "all"; });
    "a number in quotes" = wrong (mapping { expect = "2"; });
    "none expected" = wrong (mapping { expect = 0; });
    "an unknown guard" = wrong (mapping { allow = [ "disk" ]; });
    "an unknown driver" = wrong (mapping { driver = "nvidia"; });
    "owners" = rights "owner" [
      "microvm"
      "_a.b-C9"
      "0"
      "0107"
      "4294967294"
      0
      107
    ];
    "no owners" = wrongs "owner" [
      ""
      "4294967295"
      "99999999999"
      "-1"
      "1a"
      "a b"
      "a:b"
      "$USER"
      "ä"
      (lib.strings.replicate 33 "a")
      4294967295
      (-1)
      [ "microvm" ]
    ];
    "groups" = rights "group" [
      "refuse"
      "take"
      "kvm"
      "78"
      78
      [ "take" ]
      [ "kvm" ]
      [
        "take"
        "kvm"
      ]
      [
        78
        "refuse"
      ]
    ];
    "no groups" = wrongs "group" [
      ""
      "a b"
      4294967295
      true
      [ ]
      [ "" ]
    ];
    "twice the same of a group" =
      let
        values = [
          [
            "take"
            "refuse"
          ]
          [
            "kvm"
            78
          ]
          [
            "take"
            "kvm"
            "disk"
          ]
        ];
        told = failed (system [ (on { mappings = each "group" values; }) ]);
      in
      lib.length (lib.filter (hasInfix ".group: at most one") told) == lib.length values;
    "modes" = rights "mode" [
      "0660"
      "660"
      "0600"
      "0000"
      "0246"
    ];
    "no modes" = wrongs "mode" [
      ""
      "66"
      "0o660"
      "00660"
      "1660"
      "0770"
      "0680"
      "rw-"
      660
    ];
    "reset methods" = rights "reset_method" [
      "flr"
      [
        "flr"
        "bus"
      ]
    ];
    "no reset methods" = wrongs "reset_method" [
      "default"
      "FLR"
      [ "warm" ]
    ];
    "sizes of BARs" = rights "resize_bar" [
      { "0" = "8G"; }
      {
        "1" = "256M";
        "2" = "2T";
      }
    ];
    "no sizes of BARs" = wrongs "resize_bar" [
      "8G"
      { "0" = 8; }
      { "0" = "8"; }
      { "0" = "0M"; }
    ];
    "another word for power" = wrong (mapping { power = "off"; });
    "a word for d3cold" = wrong (mapping { d3cold = "no"; });
    "libvirt's hook without libvirt" = wrong (mapping { } // { libvirt.enable = true; });
    "a mapping by an interface of its own" = wrong { mappings.gpu.match.netdev = "enp59s0f0"; };
    "an entry without pf" = wrong { sriov.nic.vfs = 8; };
    "an entry without vfs" = wrong { sriov.nic.pf.netdev = "enp59s0f0"; };
    "an entry of every PF" = wrong (nic { pf = { }; });
    "a PF by its PF" = wrong (nic { pf.vf_of = "enp59s0f0"; });
    "too many VFs" = wrong (nic { vfs = 65536; });
    "a part above all" = wrong (nic { vfs = "101%"; });
    "no rule for VFs" = wrong (nic { vf = [ ]; });
    "half a MAC address" = wrong (nic { vf = [ { mac = "52:54:00"; } ]; });
    "a VLAN too high" = wrong (nic { vf = [ { vlan = 4095; } ]; });
    "a priority too high" = wrong (nic { vf = [ { vlan = { id = 1; qos = 8; }; } ]; });
    "a name with a capital, of VFs" = wrong { sriov.NIC = (nic { }).sriov.nic; };
    "a name with a capital" = wrong { mappings.GPU.match.id = "10de:2684"; };
    "a key that options and settings say otherwise" = wrong (
      mapping { take = 1; } // { settings.mapping.gpu.take = 2; }
    );
    "microvm.nix is ordered and not there" = wrong (mapping { } // { microvm.enable = true; });
  }
  // lib.optionalAttrs (microvm != null) {
    "guests of microvm.nix wait" =
      lib.all (unit: lib.elem "vfio-bindd.service" (after (of "microvm") unit)) [
        "microvm@"
        "microvm-pci-devices@"
      ]
      # What that module says of its own unit is still there.
      && lib.elem "microvm-pci-devices@%i.service" (after (of "microvm") "microvm@")
      && hasInfix "microvm-run" (of "microvm").systemd.units."microvm@.service".text
      # An instance has a drop-in only, and so the template's order.
      && (of "microvm").systemd.units."microvm@web.service".overrideStrategy == "asDropin";
    "their user is declared" = !says "is declared" (of "owned").warnings;
    "or do not" = !lib.elem "vfio-bindd.service" (after (of "no-order") "microvm@");
  };
}
