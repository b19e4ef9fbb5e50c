//! Network interfaces as the host's configuration has them.

use crate::network::nic;

/// Asserts which of the files name the interface `enp1s0`, which udev also
/// knows as `eno1`, with the address 52:54:00:12:34:56 at pci-0000:01:00.0.
fn check(path: &str, cases: &[(&str, bool)]) {
    for (text, names) in cases {
        let one = nic();
        one.file(path, text);
        let wanted = format!("network: enp1s0 is in {path}");
        let wanted: &[String] = if *names { &[wanted] } else { &[] };
        assert_eq!(one.uses(), wanted, "{text}");
    }
}

/// As [`check`], with a file beside that is not asked about.
fn check_beside(beside: (&str, &str), path: &str, text: &str, names: bool) {
    let one = nic();
    one.file(beside.0, beside.1);
    one.file(path, text);
    let wanted = format!("network: enp1s0 is in {path}");
    assert_eq!(one.uses().contains(&wanted), names, "{beside:?} {text}");
}

#[test]
fn ifupdown() {
    check(
        "/etc/network/interfaces",
        &[
            ("", false),
            ("auto lo\niface lo inet loopback\n", false),
            ("auto enp1s0\n", true),
            ("allow-hotplug enp2s0 enp1s0\n", true),
            ("auto enp1s\n", false),
            ("#auto enp1s0\n", false),
            ("iface enp1s0 inet dhcp\n", true),
            ("iface eno1 inet dhcp\n", true),
            ("auto /en*\n", true),
            ("auto /wl*\n", false),
            ("allow-hotplug /en*/1\n", true),
            // Proxmox VE writes these for every NIC.
            ("iface enp1s0 inet manual\n", false),
            ("iface enp1s0 inet manual\n\nauto vmbr0\n", false),
            ("iface enp1s0 inet manual\n\tmtu 9000\n", true),
            ("auto enp1s0\niface enp1s0 inet manual\n", true),
            ("iface vmbr0 inet static\n\tbridge-ports enp1s0\n", true),
            (
                "iface vmbr0 inet static\n\tbridge_ports eno2 enp1s0\n",
                true,
            ),
            ("iface vmbr0 inet static\n\tbridge-ports none\n", false),
            ("iface vmbr0 inet static\n\tbridge-ports enp1s0.7\n", true),
            ("iface vmbr0 inet static\n\tbridge_ports all\n", true),
            ("iface vmbr0 inet static\n\tbridge_ports regex e.*\n", true),
            ("iface br0\n\tbridge-ports glob enp1s0-4\n", true),
            ("iface br0\n\tbridge-ports glob swp1-4\n", false),
            (
                "iface bond0 inet manual\n\tbond-slaves enp1s0 enp2s0\n",
                true,
            ),
            (
                "iface bond0 inet manual\n\tslaves enp1s0 \\\n enp2s0\n",
                true,
            ),
            (
                "iface bond0 inet manual\n\tslaves enp2s0 \\\n enp1s0\n",
                true,
            ),
            ("iface vlan7 inet manual\n\tvlan-raw-device enp1s0\n", true),
            ("iface enp1s0.7 inet dhcp\n", true),
            ("iface enp1s0:1 inet static\n\taddress 192.0.2.1/24\n", true),
            ("iface bond0 inet manual\n\tovs_bonds enp1s0 enp2s0\n", true),
            ("iface vmbr0 inet manual\n\tovs_ports enp1s0\n", true),
            (
                "iface lo inet loopback\n\tpost-up ip link set enp1s0 up\n",
                true,
            ),
            ("mapping en*\n\tscript x\n", true),
        ],
    );
    check(
        "/etc/network/interfaces.d/50-cloud-init",
        &[
            ("iface enp1s0 inet dhcp\n", true),
            ("iface eth9 inet dhcp\n", false),
        ],
    );
}

#[test]
fn ifupdown_follows_what_files_name() {
    let main = "/etc/network/interfaces";
    let names = "auto enp1s0\n";
    for (source, path, named) in [
        ("source /etc/nets/*.conf", "/etc/nets/a.conf", true),
        ("source /etc/nets/*.conf", "/etc/nets/a.txt", false),
        ("source /etc/nets/*", "/etc/nets/.a", false),
        ("source nets/a", "/etc/network/nets/a", true),
        ("source-directory /etc/nets", "/etc/nets/a-b_1", true),
        ("source-directory /etc/nets", "/etc/nets/a.bak", false),
    ] {
        check_beside((main, source), path, names, named);
    }
    for (source, wanted) in [
        (
            "source /etc/*/x",
            "unchecked: /etc/network/interfaces names more files by /etc/*/x, which cannot be \
             followed",
        ),
        (
            "source $HOME/x",
            "unchecked: /etc/network/interfaces names more files by $HOME/x, which cannot be \
             followed",
        ),
    ] {
        let one = nic();
        one.file(main, source);
        assert_eq!(one.uses(), [wanted]);
    }
    let circle = nic();
    circle.file(main, "source /etc/network/interfaces\n");
    assert_eq!(circle.uses(), Vec::<String>::new());
    let deep = nic();
    deep.file(main, "source /n/1\n");
    for depth in 1..20 {
        deep.file(
            &format!("/n/{depth}"),
            &format!("source /n/{}\n", depth + 1),
        );
    }
    let wanted = "unchecked: /n/9 is named by files that are named by too many others";
    assert_eq!(deep.uses(), [wanted]);
}

#[test]
fn networkd() {
    check(
        "/etc/systemd/network/10-lan.network",
        &[
            ("[Match]\nName=enp1s0\n[Network]\nDHCP=yes\n", true),
            ("[Match]\nName=eth0 en*\n", true),
            ("[Match]\nName=eno1\n", true),
            ("[Match]\nName=eth*\n", false),
            ("[Match]\nName=!en* wl*\n", false),
            ("[Match]\nName=!wl*\n", true),
            ("[Match]\nName=en*\nName=\nName=wl*\n", false),
            ("[Match]\nMACAddress=52-54-00-12-34-56\n", true),
            ("[Match]\nMACAddress=52:54:00:00:00:01\n", false),
            ("[Match]\nPermanentMACAddress=5254.0012.3456\n", true),
            ("[Match]\nPath=pci-0000:01:*\n", true),
            ("[Match]\nPath=pci-0000:02:*\n", false),
            ("[Match]\nType=ether\n", true),
            ("[Match]\nType=wlan\n", false),
            ("[Match]\nDriver=e1000*\n", true),
            ("[Match]\nDriver=ixgbe\n", false),
            ("[Match]\nName=en*\nDriver=ixgbe\n", false),
            ("[Match]\nName=en*\nKernelCommandLine=x\n", true),
            ("[Match]\nName=wl*\nKernelCommandLine=x\n", false),
            ("[Network]\nDHCP=yes\n", true),
            ("[Match]\nName=en*\n[Link]\nUnmanaged=yes\n", false),
            ("", false),
        ],
    );
    check(
        "/etc/systemd/network/10-lan.link",
        &[
            (
                "[Match]\nMACAddress=52:54:00:12:34:56\n[Link]\nName=lan0\n",
                true,
            ),
            ("[Match]\nOriginalName=*\n[Link]\nNamePolicy=path\n", false),
            ("[Match]\nType=ether\n[Link]\nNamePolicy=path\n", false),
            ("[Match]\nPath=pci-0000:01:00.0\n[Link]\nName=lan0\n", true),
            ("[Match]\nPath=pci-0000:02:00.0\n[Link]\nName=lan0\n", false),
        ],
    );
    check(
        "/etc/systemd/network/10-x.netdev",
        &[
            ("[NetDev]\nName=bond0\nKind=bond\n", false),
            ("[NetDev]\nName=x\n[L2TP]\nLocal=enp1s0\n", true),
        ],
    );
    check(
        "/run/systemd/network/10-netplan-enp1s0.network",
        &[("[Match]\nName=enp1s0\n", true)],
    );
    // What a fresh install has is for no machine in particular.
    check(
        "/usr/lib/systemd/network/89-ethernet.network",
        &[
            ("[Match]\nType=ether\n[Network]\nDHCP=yes\n", false),
            ("[Match]\nName=en*\n", false),
            ("[Match]\nName=enp1s0\n", true),
            ("[Match]\nMACAddress=52:54:00:12:34:56\n", true),
        ],
    );
}

#[test]
fn networkd_takes_the_first_that_matches_and_hides_by_name() {
    let all = "[Match]\nName=en*\n";
    let later = "/etc/systemd/network/20-all.network";
    for (beside, text, names) in [
        // An interface that networkd is told to leave alone.
        (
            "/etc/systemd/network/10-a.network",
            "[Match]\nName=enp1s0\n[Link]\nUnmanaged=yes\n",
            false,
        ),
        (
            "/etc/systemd/network/10-a.network",
            "[Match]\nName=enp2s0\n[Link]\nUnmanaged=yes\n",
            true,
        ),
        // Whether that one matches cannot be told.
        (
            "/etc/systemd/network/10-a.network",
            "[Match]\nHost=x\n[Link]\nUnmanaged=yes\n",
            true,
        ),
        (
            "/etc/systemd/network/20-all.network.d/x.conf",
            "[Link]\nUnmanaged=yes\n",
            false,
        ),
        (
            "/etc/systemd/network/20-all.network.d/x.conf",
            "[Match]\nName=\nName=wl*\n",
            false,
        ),
        (
            "/etc/systemd/network/20-all.network.d/x.txt",
            "[Link]\nUnmanaged=yes\n",
            true,
        ),
    ] {
        check_beside((beside, text), later, all, names);
    }
    let hidden = "/run/systemd/network/20-all.network";
    check_beside(
        ("/etc/systemd/network/20-all.network", "\n"),
        hidden,
        all,
        false,
    );
    check_beside(
        ("/etc/systemd/network/30-all.network", "\n"),
        hidden,
        all,
        true,
    );
}

#[test]
fn network_manager() {
    check(
        "/etc/NetworkManager/system-connections/lan.nmconnection",
        &[
            ("[connection]\nid=x\ntype=ethernet\n", false),
            ("[connection]\ninterface-name=enp1s0\n", true),
            ("[connection]\ninterface-name=enp2s0\n", false),
            ("[ethernet]\nmac-address=52:54:00:12:34:56\n", true),
            ("[ethernet]\nmac-address=52:54:00:00:00:01\n", false),
            ("[ethernet]\nmac-address=\n", false),
            (
                "[connection]\ninterface-name=enp1s0\n[ethernet]\nmac-address=52:54:00:00:00:01\n",
                false,
            ),
            ("[match]\ninterface-name=eth*;en*;\n", true),
            ("[match]\ninterface-name=!en*;\n", false),
            ("[match]\ninterface-name=en*;!eno1;\n", false),
            ("[match]\ninterface-name=&en*;wl*;\n", false),
            ("[match]\npath=pci-0000:01:00.0\n", true),
            ("[match]\npath=pci-0000:02:00.0\n", false),
            ("[match]\ndriver=e1000e\n", true),
            (
                "[connection]\ninterface-name=v7\n[vlan]\nparent=enp1s0\n",
                true,
            ),
            (
                "[connection]\ninterface-name=v7\n[vlan]\nparent=52:54:00:12:34:56\n",
                true,
            ),
            (
                "[connection]\ninterface-name=v7\n[vlan]\nparent=enp2s0\n",
                false,
            ),
        ],
    );
    check(
        "/run/NetworkManager/system-connections/a.nmconnection",
        &[("[connection]\ninterface-name=enp1s0\n", true)],
    );
    check(
        "/usr/lib/NetworkManager/system-connections/a.nmconnection",
        &[("[connection]\ninterface-name=enp1s0\n", true)],
    );
}

#[test]
fn netplan() {
    check(
        "/etc/netplan/50-cloud-init.yaml",
        &[
            ("", false),
            (
                "network:\n  version: 2\n  renderer: NetworkManager\n",
                false,
            ),
            (
                "network:\n  ethernets:\n    enp1s0:\n      dhcp4: true\n",
                true,
            ),
            ("network:\n  ethernets:\n    enp1s0: {}\n", true),
            ("network: {ethernets: {enp1s0: {dhcp4: true}}}\n", true),
            (
                "network:\n  ethernets:\n    enp2s0:\n      dhcp4: true\n",
                false,
            ),
            (
                "network:\n  ethernets:\n    id:\n      match: {name: 'en*'}\n",
                true,
            ),
            (
                "network:\n  ethernets:\n    enp1s0:\n      match: {name: 'wl*'}\n",
                false,
            ),
            (
                "network:\n  ethernets:\n    id:\n      match:\n        macaddress: 52:54:00:12:34:56\n",
                true,
            ),
            (
                "network:\n  ethernets:\n    id:\n      match:\n        macaddress: 52:54:00:00:00:01\n",
                false,
            ),
            (
                "network:\n  ethernets:\n    id:\n      match: {macaddress: 52:54:00:00:00:01}\n      set-name: enp1s0\n",
                true,
            ),
            (
                "network:\n  ethernets:\n    id:\n      match: {driver: [ixgbe, e1000e]}\n",
                true,
            ),
            ("network:\n  ethernets:\n    id:\n      match: {}\n", true),
            (
                "network:\n  bridges:\n    br0:\n      interfaces: [enp1s0]\n",
                true,
            ),
            (
                "network:\n  bonds:\n    bond0:\n      interfaces:\n      - enp2s0\n      - enp1s0\n",
                true,
            ),
            (
                "network:\n  bonds:\n    bond0:\n      interfaces:\n      - enp2s0\n",
                false,
            ),
            (
                "network:\n  vlans:\n    v7:\n      id: 7\n      link: enp1s0\n",
                true,
            ),
            (
                "network:\n  vlans:\n    enp1s0:\n      id: 7\n      link: enp2s0\n",
                false,
            ),
        ],
    );
    check(
        "/lib/netplan/a.yaml",
        &[("network: {ethernets: {enp1s0: {}}}\n", true)],
    );
    check(
        "/etc/netplan/a.yml",
        &[("network: {ethernets: {enp1s0: {}}}\n", false)],
    );
    let path = "/etc/netplan/a.yaml";
    for (text, why) in [
        ("network: &n\n", "line 1 has a value that is not understood"),
        ("- network\n", "it is no map"),
        ("network: x\n", "network is no map"),
        (
            "network:\n  ethernets: [enp1s0]\n",
            "network.ethernets is a list",
        ),
    ] {
        let one = nic();
        one.file(path, text);
        assert_eq!(
            one.uses(),
            [format!("unchecked: {path} is not understood: {why}")]
        );
    }
}

#[test]
fn what_must_not_be_read_counts() {
    for path in [
        "/etc/network/interfaces",
        "/etc/network/interfaces.d",
        "/etc/systemd/network",
        "/etc/NetworkManager/system-connections",
        "/etc/netplan",
        "/run/udev/data/n7",
    ] {
        let one = nic();
        one.forbid(path);
        let wanted = format!("unchecked: {path} cannot be read: permission denied");
        assert_eq!(one.uses(), [wanted]);
    }
    let path = "/etc/NetworkManager/system-connections/a";
    let one = nic();
    one.file(path, "");
    one.forbid(path);
    let wanted = format!("unchecked: {path} cannot be read: permission denied");
    assert_eq!(one.uses(), [wanted]);
}

#[test]
fn an_address_that_somebody_set_is_not_the_one_it_was_made_with() {
    let keyfile = "/etc/NetworkManager/system-connections/a";
    let network = "/etc/systemd/network/a.network";
    let permanent = "52:54:00:12:34:56";
    let changed = "02:00:00:00:00:01";
    let host = |udev: &str| {
        let one = nic();
        one.set("net/enp1s0/address", changed);
        one.set("net/enp1s0/addr_assign_type", "3");
        one.file("/run/udev/data/n7", udev);
        one
    };
    let named = |udev: &str, path: &str, text: &str| {
        let one = host(udev);
        one.file(path, text);
        !one.uses().is_empty()
    };
    let known = "E:ID_NET_NAME_MAC=enx525400123456\n";
    let by_keyfile = |mac: &str| format!("[ethernet]\nmac-address={mac}\n");
    let by_network = |mac: &str| format!("[Match]\nMACAddress={mac}\n");
    assert!(named(known, keyfile, &by_keyfile(permanent)));
    assert!(!named(known, keyfile, &by_keyfile(changed)));
    assert!(named(known, network, &by_network(changed)));
    assert!(!named(known, network, &by_network(permanent)));
    // Without udev's word it may be any.
    assert!(named("", keyfile, &by_keyfile(permanent)));
}
