# vfio-bindd as a service of NixOS: its config as options, the units, and the early
# stage for the initrd. docs/microvm.md shows it at work.
{
  config,
  lib,
  options,
  pkgs,
  ...
}:

let
  inherit (lib)
    attrNames
    concatMap
    filter
    literalExpression
    mkEnableOption
    mkIf
    mkMerge
    mkOption
    optional
    types
    ;

  cfg = config.services.vfio-bindd;
  toml = pkgs.formats.toml { };

  # What is not said is not written, so that the daemon's own defaults hold.
  said =
    value:
    if lib.isAttrs value then
      lib.mapAttrs (_: said) (lib.filterAttrs (_: one: one != null) value)
    else if lib.isList value then
      map said value
    else
      value;

  unset =
    type: description:
    mkOption {
      type = types.nullOr type;
      default = null;
      inherit description;
    };
  oneOrMore = type: types.either type (types.nonEmptyListOf type);
  glob = oneOrMore types.nonEmptyStr;
  id = oneOrMore (types.strMatching "([0-9a-fA-F]{4}|\\*):([0-9a-fA-F]{4}|\\*)");

  # A user or a group. A text of digits is a number; the one above the greatest stands
  # for none (chown(2)).
  greatestId = 4294967294;
  isAccount =
    text:
    let
      digits = builtins.match "0*([0-9]{1,10})" text;
    in
    if digits != null then
      lib.toIntBase10 (lib.head digits) <= greatestId
    else
      isName text;
  isName = text: builtins.match "[A-Za-z_][A-Za-z0-9_.-]{0,31}" text != null;
  account =
    what:
    types.either (types.ints.between 0 greatestId) (
      types.addCheck types.str isAccount // { description = "name or number of a ${what}"; }
    );
  groupRules = [
    "refuse"
    "take"
  ];

  terms = {
    id = unset id "Vendor and device ID, as `10de:2684`; either half may be `*`.";
    subsystem = unset id "The same of the subsystem.";
    class = unset glob "Class by name, as `nvme`, or a glob over its six hex digits.";
    address = unset glob ''
      Address, as `0000:3b:00.0`. It changes when a card is added: prefer `path`.
    '';
    path = unset glob "The way from the root complex, as `0000:00:01.1/00.0`.";
    slot = unset glob "The name of the slot, or the firmware's label of the function.";
    serial = unset glob "The PCIe Device Serial Number.";
    numa = unset (oneOrMore (types.either types.ints.unsigned (types.enum [ "none" ]))) ''
      The NUMA node; `"none"` is one that is not known.
    '';
    iommu_group = unset (oneOrMore types.ints.unsigned) "The IOMMU group.";
  };
  selector = types.submodule {
    options = terms // {
      vf_of = unset glob "Address or network interface of the PF that it is a VF of.";
      vf = unset (types.either types.ints.unsigned types.nonEmptyStr) ''
        Which VFs of `vf_of`, as `"0,2-7"`.
      '';
      kind = unset (oneOrMore (types.enum [
        "pf"
        "vf"
        "plain"
      ])) "Role in SR-IOV.";
    };
  };
  selectors = types.either selector (types.nonEmptyListOf selector);
  pfSelector = types.submodule {
    options = terms // {
      netdev = unset glob "The network interface that the PF's own driver makes, as `enp59s0f0`.";
    };
  };

  guards = [
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

  drivers = [
    "vfio-pci"
    "auto"
    "mlx5_vfio_pci"
    "nvgrace_gpu_vfio_pci"
    "hisi_acc_vfio_pci"
    "pds_vfio_pci"
    "qat_vfio_pci"
    "virtio_vfio_pci"
    "ism_vfio_pci"
    "xe-vfio-pci"
  ];

  resetMethods = [
    "device_specific"
    "acpi"
    "flr"
    "af_flr"
    "pm"
    "bus"
    "cxl_bus"
  ];

  mapping = types.submodule {
    options = {
      match = mkOption {
        type = selectors;
        example = {
          id = "10de:2684";
          numa = 1;
        };
        description = "Which functions are meant: all terms of a selector hold, or those of any in a list.";
      };
      exclude = unset selectors "Which of them are not meant.";
      description = unset types.str "For people.";
      functions = unset (types.enum [
        "matched"
        "slot"
      ]) ''With `"slot"` also the other functions of the slot, as the audio function of a GPU.'';
      expect = unset (types.either types.ints.positive (
        types.submodule {
          options = {
            min = unset types.ints.unsigned "At least so many.";
            max = unset types.ints.positive "At most so many.";
          };
        }
      )) "How many must match; otherwise none is bound.";
      take = unset (types.either types.ints.positive (types.enum [ "all" ])) ''
        How many of them are taken, in the order of their addresses unless `prefer_numa` or
        `placement` says otherwise.
      '';
      prefer_numa = unset types.ints.unsigned "The NUMA node whose functions are taken and claimed first.";
      placement = unset (types.enum [
        "address"
        "spread"
        "pack"
      ]) "Which are taken and claimed first among equals: as far from one another as can be, or as near.";
      partial = unset types.bool "Whether the rest is bound where some are refused.";
      driver = unset (types.enum drivers) ''
        The driver to bind to; `"auto"` is the vfio variant driver that is made for the function.
      '';
      detach = unset (types.enum [
        "idle"
        "never"
      ]) "What may happen to a native driver that came first.";
      # A slip in one of the two words is left to `vfio-bindctl check`, which knows how
      # near to them a group's name may be.
      group = unset (oneOrMore (types.either (types.enum groupRules) (account "group"))) ''
        `"refuse"` or `"take"`: what to do about the rest of the IOMMU group. Anything else
        is the group, by name or number, that the functions' nodes below {file}`/dev/vfio`
        are to belong to, as `"kvm"`. `[ "take" "kvm" ]` says both.
      '';
      allow = unset (types.listOf (types.enum guards)) "Guards that do not hold for this mapping.";
      owner = unset (account "user") ''
        The user, by name or number, that the functions' nodes below {file}`/dev/vfio` are
        to belong to, as `"microvm"`.
      '';
      mode = unset (types.strMatching "0?[0246]{3}") ''
        Who may read (4) and write (2) these nodes, in octal, as `"0640"`. With a group of
        users it is `"0660"` if nothing is said, otherwise it is left as it is.
      '';
      reset_method = unset (oneOrMore (types.enum resetMethods)) ''
        How the kernel resets the functions, in the order to be tried.
      '';
      d3cold = unset types.bool "Whether the devices may be without power while nobody uses them.";
      power = unset (types.enum [
        "on"
        "auto"
      ]) "Whether the devices may sleep while nobody uses them, as vfio-pci lets them.";
      resize_bar = unset (types.attrsOf (types.strMatching "[1-9][0-9]*[MGTPE]")) ''
        How large BARs are that can be resized, as `{ "0" = "8G"; }`.
      '';
      proxmox = unset (types.strMatching "[A-Za-z][A-Za-z0-9_-]+") ''
        The ID of the resource mapping of Proxmox VE that it is paired with.
      '';
    };
  };

  mac = types.strMatching "[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}";
  vf = types.submodule {
    options = {
      index = unset (types.either types.ints.u16 types.nonEmptyStr) ''
        Of which VFs this is, as `"0,2-7"`; of all, if nothing is said.
      '';
      mac = unset (types.either mac (
        types.submodule {
          options.base = mkOption {
            type = mac;
            description = "That of VF 0; the index of each is added.";
          };
        }
      )) "The MAC address; of more than one VF `{ base = ...; }`.";
      vlan = unset (types.either (types.ints.between 0 4094) (
        types.submodule {
          options = {
            id = mkOption {
              type = types.ints.between 0 4094;
              description = "The VLAN, 0 for none.";
            };
            qos = unset (types.ints.between 0 7) "Its priority.";
            protocol = unset (types.enum [
              "802.1Q"
              "802.1ad"
            ]) "The tag.";
          };
        }
      )) "The VLAN that all it sends is put in.";
      rate = unset (types.either types.ints.u32 (
        types.submodule {
          options = {
            min = unset types.ints.u32 "At least so much, in Mbit/s.";
            max = unset types.ints.u32 "At most so much; 0 is no limit.";
          };
        }
      )) "The most that it may send, in Mbit/s.";
      spoof_check = unset types.bool "Whether what it sends must come from its own MAC address.";
      link_state = unset (types.enum [
        "auto"
        "enable"
        "disable"
      ]) "What it sees of the link.";
      trust = unset types.bool "Whether it may change its MAC address and listen to everything.";
    };
  };

  sriov = types.submodule {
    options = {
      description = unset types.str "For people.";
      pf = mkOption {
        type = types.either pfSelector (types.nonEmptyListOf pfSelector);
        example = {
          netdev = "enp59s0f0";
        };
        description = "Which PFs are meant.";
      };
      vfs = mkOption {
        type = types.either types.ints.u16 (types.strMatching "max|([1-9][0-9]?|100)%");
        example = "max";
        description = "How many VFs each of them is to have: a number, `\"max\"`, or a part of that as `\"50%\"`.";
      };
      autoprobe = unset types.bool "Whether native drivers may have the VFs.";
      vf = unset (types.nonEmptyListOf vf) "What the VFs are set to before anybody gets one.";
    };
  };

  checked =
    file:
    # What cannot run here is checked when the daemon reads it.
    if !cfg.checkConfig || !pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform then
      file
    else
      pkgs.runCommand "vfio-bindd-config.toml" { } ''
        ${lib.getExe' cfg.package "vfio-bindctl"} check ${file}
        cp ${file} $out
      '';
  configFile = checked (toml.generate "vfio-bindd.toml" cfg.settings);

  selectorsOf =
    one: concatMap lib.toList (filter (list: list != null) [ one.match one.exclude ]);

  # The IOMMU group's rule (`right`) and the groups of users (`wrong`) of a mapping.
  groupsOf = one: lib.partition (word: lib.elem word groupRules) (lib.toList one.group);

  # Names in mappings that NixOS does not make. It may not know all, hence no error. The
  # check above cannot tell: where packages are built there is none of them.
  undeclared =
    what: declared: namesOf:
    let
      known = lib.mapAttrsToList (_: one: one.name) declared;
      unknown = one: lib.isString one && isName one && !lib.elem one known;
      warning =
        name: one:
        "services.vfio-bindd.mappings.${name}: no ${what} `${one}` is declared. The mapping fails while there is none.";
    in
    concatMap (name: map (warning name) (filter unknown (namesOf cfg.mappings.${name}))) (
      attrNames cfg.mappings
    );

  early = "${cfg.package}/lib/vfio-bindd/early";
  scripted = cfg.earlyInitrd.enable && !config.boot.initrd.systemd.enable;
  displays = lib.intersectLists config.boot.initrd.kernelModules [
    "amdgpu"
    "i915"
    "nouveau"
    "nvidia"
    "radeon"
    "xe"
  ];

  hasMicrovmHost = options ? microvm.host.enable;
in
{
  options.services.vfio-bindd = {
    enable = mkEnableOption ''
      vfio-bindd, which binds the PCI functions that its config describes to vfio for
      virtual machines. The host needs its IOMMU: on in the firmware and, for Intel with
      older kernels, `intel_iommu=on` in {option}`boot.kernelParams`, which this module
      leaves to you'';

    package = mkOption {
      type = types.package;
      default = pkgs.callPackage ./package.nix { };
      defaultText = literalExpression "pkgs.callPackage ./package.nix { }";
      description = "The package of vfio-bindd.";
    };

    mappings = mkOption {
      type = types.attrsOf mapping;
      default = { };
      example = literalExpression ''
        {
          gpu = {
            match = { id = "10de:2684"; numa = 1; };
            functions = "slot";
            expect = 2;
          };
        }
      '';
      description = ''
        The mappings, by the names that hooks ask for. {manpage}`vfio-bindd.toml(5)` says
        what each key means; what is left out has the default that is said there.
      '';
    };

    sriov = mkOption {
      type = types.attrsOf sriov;
      default = { };
      example = literalExpression ''
        {
          uplink = {
            pf = { netdev = "enp59s0f0"; };
            vfs = 8;
            vf = [ { index = "0-3"; vlan = 100; } ];
          };
        }
      '';
      description = ''
        The PFs that are to have VFs, by names for people. A mapping has the VFs by
        `vf_of`.
      '';
    };

    settings = mkOption {
      type = toml.type;
      default = { };
      example = {
        protect.match = [ { address = "0000:00:1f.*"; } ];
      };
      description = ''
        {file}`/etc/vfio-bindd/config.toml` as it is written, for what has no option here.
        {option}`services.vfio-bindd.mappings` becomes its `mapping`, and
        {option}`services.vfio-bindd.sriov` its `sriov`.
      '';
    };

    checkConfig = mkOption {
      type = types.bool;
      default = true;
      description = ''
        Whether `vfio-bindctl check` must accept the config for the system to be built.
      '';
    };

    claims = {
      users = mkOption {
        type = types.listOf types.nonEmptyStr;
        default = [ ];
        example = [ "microvm" ];
        description = "Users who may claim functions without being root, by way of polkit.";
      };
      groups = mkOption {
        type = types.listOf types.nonEmptyStr;
        default = [ ];
        example = [ "kvm" ];
        description = "Groups whose members may do so.";
      };
    };

    earlyInitrd.enable = mkEnableOption ''
      the early stage in the initrd as well, where drivers of mapped functions are loaded
      there, as {option}`boot.initrd.kernelModules` has GPU drivers loaded. It takes displays,
      sound, encryption and accelerators. All else needs a verdict of the boot before, which an
      initrd of NixOS cannot carry, and is left to the stage of the real root'';

    libvirt.enable = mkEnableOption ''
      the hook of libvirt for QEMU, which stops a start that would get another device than
      the domain means, and claims its functions while it runs. On NixOS it replaces
      `vfio-bindctl libvirt enable`'';

    microvm = {
      enable = mkOption {
        type = types.bool;
        default = hasMicrovmHost && config.microvm.host.enable;
        defaultText = literalExpression "config.microvm.host.enable or false";
        description = "Whether the guests of microvm.nix wait for vfio-bindd at boot.";
      };
      units = mkOption {
        type = types.listOf (types.strMatching "[^/ ]+@?");
        default = [
          "microvm-pci-devices@"
          "microvm@"
        ];
        description = ''
          Services, without `.service`, that wait. Templates, since instances are not
          ordered by {file}`microvms.target`. Each must be defined by another module.
        '';
      };
    };
  };

  config = mkIf cfg.enable (mkMerge [
    {
      services.vfio-bindd.settings = mkMerge [
        (mkIf (cfg.mappings != { }) { mapping = said cfg.mappings; })
        (mkIf (cfg.sriov != { }) { sriov = said cfg.sriov; })
      ];

      assertions =
        map (name: {
          assertion = builtins.match "[a-z][a-z0-9_-]+" name != null;
          message = "services.vfio-bindd: `${name}` is no name for a mapping or an entry of `sriov`: a lower-case letter, then at least one more of a-z, 0-9, _ and -.";
        }) (attrNames cfg.mappings ++ attrNames cfg.sriov)
        ++ map (name: {
          assertion = !lib.elem { } (map said (lib.toList cfg.sriov.${name}.pf));
          message = "services.vfio-bindd.sriov.${name}: an empty selector would match every function.";
        }) (attrNames cfg.sriov)
        ++ map (name: {
          assertion = !lib.elem { } (map said (selectorsOf cfg.mappings.${name}));
          message = "services.vfio-bindd.mappings.${name}: an empty selector would match every function.";
        }) (attrNames cfg.mappings)
        ++ map (name: {
          assertion =
            let
              groups = groupsOf cfg.mappings.${name};
            in
            lib.length groups.right <= 1 && lib.length groups.wrong <= 1;
          message = "services.vfio-bindd.mappings.${name}.group: at most one of `refuse` and `take`, and one group of users.";
        }) (attrNames cfg.mappings)
        ++ map (off: {
          assertion = !lib.elem off config.boot.kernelParams;
          message = "services.vfio-bindd: ${off} is among boot.kernelParams, and no function can be bound for a virtual machine without an IOMMU.";
        }) [
          "amd_iommu=off"
          "intel_iommu=off"
          "iommu=off"
        ]
        ++ [
          {
            assertion = cfg.microvm.enable -> hasMicrovmHost;
            message = "services.vfio-bindd.microvm.enable needs the host module of microvm.nix, whose units it orders.";
          }
          {
            assertion = cfg.libvirt.enable -> config.virtualisation.libvirtd.enable;
            message = "services.vfio-bindd.libvirt.enable needs virtualisation.libvirtd.enable, which puts the hook in place.";
          }
        ];

      warnings =
        optional (lib.any (lib.hasPrefix "vfio-pci.ids=") config.boot.kernelParams) ''
          boot.kernelParams gives vfio-pci IDs, and so it gets every card with one of them,
          wherever it is. Mappings of services.vfio-bindd need none: remove them.
        ''
        ++ optional (scripted && displays != [ ]) ''
          boot.initrd.kernelModules has ${lib.concatStringsSep ", " displays}, which a scripted initrd
          loads before anything else, also before the early stage of services.vfio-bindd. Remove
          them, or set boot.initrd.systemd.enable, where the early stage comes first.
        ''
        ++ undeclared "user" config.users.users (one: [ one.owner ])
        ++ undeclared "group" config.users.groups (one: (groupsOf one).wrong);

      environment.etc."vfio-bindd/config.toml".source = configFile;
      # The command, and what polkit and the manual find there.
      environment.systemPackages = [ cfg.package ];
      services.dbus.packages = [ cfg.package ];
      services.udev.packages = [ cfg.package ];
      # Loading them binds nothing.
      boot.kernelModules = [
        "vfio_pci"
        "vfio_iommu_type1"
      ];

      # The units are those of the package; NixOS does not read their [Install]. The
      # helper's socket comes with the daemon.
      systemd.packages = [ cfg.package ];
      systemd.services.vfio-bindd = {
        wantedBy = [ "multi-user.target" ];
        reloadTriggers = [ configFile ];
      };
      systemd.services.vfio-bindd-early = {
        wantedBy = [ "sysinit.target" ];
        # It is for a boot. Later it would use up what the next one goes by.
        restartIfChanged = false;
      };
    }

    (mkIf (cfg.claims.users != [ ] || cfg.claims.groups != [ ]) {
      security.polkit.enable = true;
      security.polkit.extraConfig = ''
        polkit.addRule(function(action, subject) {
          if (action.id == "org.vfiobindd1.claim" &&
              (${builtins.toJSON cfg.claims.users}.indexOf(subject.user) >= 0 ||
               ${builtins.toJSON cfg.claims.groups}.some(function(group) { return subject.isInGroup(group); })))
            return polkit.Result.YES;
        });
      '';
    })

    (mkIf cfg.libvirt.enable {
      # Not its place in the store: libvirtd is not restarted with a new system, and links
      # to the hook when it starts. Once the old package is collected that link would lead
      # nowhere, and libvirt passes over such a hook.
      environment.pathsToLink = [ "/lib/vfio-bindd" ];
      virtualisation.libvirtd.hooks.qemu.vfio-bindd = "/run/current-system/sw/lib/vfio-bindd/libvirt-hook";
    })

    (mkIf (cfg.microvm.enable && hasMicrovmHost) {
      # An addition to units of that module: where it is missing this would make
      # services that have nothing to start.
      systemd.services = lib.genAttrs cfg.microvm.units (_: {
        after = [ "vfio-bindd.service" ];
      });
    })

    (mkIf cfg.earlyInitrd.enable {
      boot.initrd.availableKernelModules = [
        "vfio_pci"
        "vfio_iommu_type1"
      ];
    })

    (mkIf (cfg.earlyInitrd.enable && !scripted) {
      boot.initrd.systemd = {
        contents."/etc/vfio-bindd/config.toml".source = configFile;
        storePaths = [ early ];
        # Not by the name of the stage of the real root: a unit that was started here
        # may count as started there. Nothing gives back when the root does not show
        # up, since only what needs a verdict could be behind that.
        services.vfio-bindd-initrd = {
          description = "Keep PCI functions for virtual machines before their drivers come";
          wantedBy = [ "sysinit.target" ];
          before = [
            "systemd-udev-trigger.service"
            "systemd-modules-load.service"
            "sysinit.target"
            "shutdown.target"
          ];
          conflicts = [ "shutdown.target" ];
          unitConfig = {
            DefaultDependencies = false;
            ConditionKernelCommandLine = "!vfio_bindd=off";
          };
          serviceConfig = {
            Type = "oneshot";
            ExecStart = early;
            # It ends by itself after five; a worker that hangs in the kernel is left behind.
            TimeoutStartSec = "10s";
          };
        };
      };
    })

    (mkIf scripted {
      boot.initrd = {
        extraUtilsCommands = ''
          copy_bin_and_libs ${early}
          mv $out/bin/early $out/bin/vfio-bindd-early
        '';
        # It has no option that does nothing; a wrong one has it say which there are.
        extraUtilsCommandsTest = ''
          $out/bin/vfio-bindd-early -h 2>&1 | grep -q 'usage: early'
        '';
        # Before udev. It ends within seconds, and never fails the boot.
        preDeviceCommands = ''
          mkdir -p /etc/vfio-bindd
          ln -s ${configFile} /etc/vfio-bindd/config.toml
          vfio-bindd-early || true
        '';
      };
    })
  ]);
}
