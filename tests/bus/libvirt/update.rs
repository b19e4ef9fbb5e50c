//! Definitions, and what makes libvirt call the hook.

use std::{fs, path::Path};

use vfio_bindd::engine::snapshot::MappingState;

use super::{Host, NIC, NIC_0, POOL, both, domain};
use crate::{
    client::Client,
    service::{Service, bound, snapshot, view},
};

#[tokio::test(flavor = "current_thread")]
async fn definitions_follow_the_functions() {
    let host = Host::new();
    let service = Service::start(&host.bus.address(), both());
    let _client = Client::served(&host.bus.address()).await;
    let asks = "<v:mapping name='nic'/>";
    let before = host.define("web", asks, &[("0000:00:09.0", NIC_0.1)]);
    let shown = "-         <address domain='0x0000' bus='0x00' slot='0x09' function='0x0'/>\n\
                 +         <address domain='0x0000' bus='0x00' slot='0x02' function='0x0'/>\n";
    let (code, out, err) = host.update("web", &["--dry-run"]).await;
    assert_eq!((code, out.as_str()), (0, shown), "{err}");
    assert_eq!(host.read("virsh/web.xml"), before);
    assert!(!host.read("virsh/calls").contains("define"));
    let (code, out, err) = host.update("web", &[]).await;
    assert_eq!((code, out.as_str(), err.as_str()), (0, shown, ""));
    let right = domain("web", asks, &[NIC_0]);
    assert_eq!(host.read("virsh/web.xml"), right);
    // Once more, and nothing is written.
    fs::remove_file(host.path("virsh/calls")).unwrap();
    assert_eq!(
        host.update("web", &["--wait", "1s"]).await,
        (0, String::new(), String::new())
    );
    assert!(!host.read("virsh/calls").contains("define"));
    // One that runs has it from its next start.
    host.file("virsh/web.running", "");
    host.define("web", "", &[("0000:00:09.0", NIC_0.1)]);
    let (code, out, err) = host.update("web", &[]).await;
    assert_eq!((code, out.as_str()), (0, shown));
    assert_eq!(
        err,
        "vfio-bindctl: 'web' is running: that holds from its next start\n"
    );
    // What is not bound takes nothing out.
    for (state, code) in [
        (MappingState::Absent, 3),
        (MappingState::Released, 3),
        (MappingState::Refused, 5),
    ] {
        let generation = service.snapshots.borrow().generation + 1;
        let gone = view(state, "it is not there", &[]);
        service.publish(snapshot(generation, [("nic", gone)]));
        let before = host.define("web", asks, &[NIC_0]);
        let (found, out, err) = host.update("web", &[]).await;
        assert_eq!((found, out.as_str()), (code, ""), "{state}: {err}");
        assert_eq!(host.read("virsh/web.xml"), before);
    }
    let generation = service.snapshots.borrow().generation + 1;
    service.publish(snapshot(generation, [("nic", bound(&[NIC]))]));
    for (name, metadata, devices, code, words) in [
        (
            "nowhere",
            "",
            vec![],
            1,
            "failed to get domain 'nowhere'; and that is all",
        ),
        ("wrong", "<v:mapping name='gpu'/>", vec![], 4, "'gpu'"),
        (
            "none",
            "",
            vec![(NIC, "hostdev0")],
            1,
            "asks for no mapping",
        ),
        (
            "taken",
            asks,
            vec![(NIC, "hostdev0")],
            1,
            "give it the alias ua-vfio-bindd-nic-0",
        ),
        (
            "many",
            "<v:mapping name='nic' count='2'/>",
            vec![],
            5,
            "has 1, and the domain asks for 2",
        ),
        (
            "refuse-me",
            asks,
            vec![],
            1,
            "virsh define: XML document failed to validate",
        ),
        (
            "mistyped",
            "<v:mapping nam='nic'/>",
            vec![],
            1,
            "unknown attribute 'nam'",
        ),
    ] {
        if name != "nowhere" {
            host.define(name, metadata, &devices);
        }
        let (found, out, err) = host.update(name, &[]).await;
        assert_eq!((found, out.as_str()), (code, ""), "{name}: {err}");
        assert!(
            err.contains(words) && err.lines().count() == 1,
            "{name}: {err}"
        );
    }
    let before = host.define("web", asks, &[]);
    host.file("virsh/web.busy", "");
    let (code, _, err) = host.update("web", &[]).await;
    assert!(
        code == 1 && err.contains("somebody else defines 'web'"),
        "{err}"
    );
    assert_eq!(host.read("virsh/web.xml"), before);
    host.file("virsh/web.transient", "");
    let (code, _, err) = host.update("web", &[]).await;
    assert!(code == 1 && err.contains("is transient"), "{err}");
}

#[tokio::test(flavor = "current_thread")]
async fn domains_get_different_parts_of_a_pool() {
    let host = Host::new();
    let service = Service::start(&host.bus.address(), snapshot(1, [("pool", bound(&POOL))]));
    let _client = Client::served(&host.bus.address()).await;
    let one = "<v:mapping name='pool' count='1'/>";
    let has = |name: &str| {
        let text = host.read(&format!("virsh/{name}.xml"));
        let slots = text.split("slot='0x0").skip(1);
        slots.map(|rest| rest[..1].to_owned()).collect::<String>()
    };
    host.define("theirs", "", &[(POOL[0], "hostdev0")]);
    for (name, slot) in [("a", "5"), ("b", "6")] {
        host.define(name, one, &[]);
        let (code, _, err) = host.update(name, &[]).await;
        assert_eq!((code, err.as_str()), (0, ""));
        assert_eq!(has(name), slot, "{name}");
        assert_eq!(host.update(name, &[]).await.1, "");
    }
    // There are no more; these two cannot run at once.
    host.define("c", one, &[]);
    let (code, _, err) = host.update("c", &[]).await;
    assert_eq!((code, has("c").as_str()), (0, "4"));
    assert!(
        err.contains("0000:00:04.0 is in the definition of 'theirs', too"),
        "{err}"
    );
    // Without metadata it is as many as there are, and what is there stays.
    host.define(
        "d",
        "",
        &[
            ("0000:00:09.0", "ua-vfio-bindd-pool-0"),
            (POOL[2], "ua-vfio-bindd-pool-1"),
        ],
    );
    fs::remove_file(host.path("virsh/a.xml")).unwrap();
    let (code, _, err) = host.update("d", &[]).await;
    assert_eq!((code, has("d").as_str()), (0, "56"), "{err}");
    // A slot is a device where the config says so, and a group is not split.
    host.file(
        "config.toml",
        "[mapping.pool]\nmatch = { class = \"network\" }\nfunctions = \"slot\"\n",
    );
    let slots = [
        "0000:00:04.0",
        "0000:00:04.1",
        "0000:00:05.0",
        "0000:00:05.1",
    ];
    service.publish(snapshot(2, [("pool", bound(&slots))]));
    host.define("e", one, &[]);
    for name in ["b", "c", "d"] {
        fs::remove_file(host.path(&format!("virsh/{name}.xml"))).unwrap();
    }
    let (code, _, err) = host.update("e", &[]).await;
    assert_eq!((code, has("e").as_str()), (0, "55"), "{err}");
}

#[tokio::test(flavor = "current_thread")]
async fn the_hook_is_put_where_libvirt_looks() {
    let host = Host::new();
    let root = host.root.path().to_str().unwrap();
    let enable = ["libvirt", "enable", "--root", root];
    let (code, _, err) = host.ctl(&enable, "").await;
    assert!(
        code == 1 && err.contains("usr/lib/vfio-bindd/libvirt-hook: No such file"),
        "{err}"
    );
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/libvirt/hook");
    host.file("usr/lib/vfio-bindd/libvirt-hook", "");
    fs::copy(&program, host.path("usr/lib/vfio-bindd/libvirt-hook")).unwrap();
    let hook = "etc/libvirt/hooks/qemu.d/vfio-bindd";
    for daemon in ["libvirtd", "libvirtd", "virtqemud"] {
        if daemon == "virtqemud" {
            host.file("run/virtqemud.pid", "1");
            // Of an older version.
            host.file(hook, "exec vfio-bindctl hook libvirt \"$@\"\n");
        }
        let (code, out, err) = host.ctl(&enable, "").await;
        assert_eq!(
            (code, out),
            (0, format!("systemctl restart {daemon}\n")),
            "{err}"
        );
        assert_eq!(host.read(hook), fs::read_to_string(&program).unwrap());
        let copied = fs::symlink_metadata(host.path(hook)).unwrap();
        assert_eq!(
            copied.permissions(),
            fs::metadata(&program).unwrap().permissions()
        );
        assert!(copied.is_file());
    }
    host.file(hook, "#!/bin/sh\n# mine\n");
    let (code, _, err) = host.ctl(&enable, "").await;
    assert!(code == 1 && err.contains("is not vfio-bindd's"), "{err}");
    assert_eq!(host.read(hook), "#!/bin/sh\n# mine\n");
}
