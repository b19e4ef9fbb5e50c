//! Proxmox VE: the hookscript against a daemon, and resource mappings against a
//! stand-in for `pvesh`.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;
use vfio_bindd::{
    bus::request::Lasts,
    engine::{
        claims::{Share, Unclaimed},
        snapshot::{DaemonState, MappingState, MappingView, Snapshot},
    },
};

use crate::{
    client::soon,
    private_bus::is_root,
    service::{Service, answer, bound, listener, released, snapshot, view},
    support::at,
    tree::Tree,
};

const NIC: &str = "0000:00:02.0";
const OTHER: &str = "0000:00:03.0";
const CONFIG: &str = "[mapping.nic]\nmatch = { id = \"8086:10d3\" }\nproxmox = \"nic0\"\n\
                      [proxmox]\nsync = true\n";

/// A node of a cluster.
struct Node {
    root: TempDir,
    tree: Tree,
}

impl Node {
    /// Two NICs on vfio-pci.
    fn new() -> Self {
        let node = Self {
            root: tempfile::tempdir().unwrap(),
            tree: Tree::new(),
        };
        for (group, address) in [(2, NIC), (3, OTHER)] {
            node.tree.add(address, group);
            node.tree.bind(address);
            node.file(&format!("dev/vfio/{group}"), "");
        }
        node.file("config.toml", CONFIG);
        node
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    fn file(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn guest(&self, text: &str) {
        self.file("etc/pve/qemu-server/100.conf", text);
    }

    /// The resource mappings.
    fn mappings(&self) -> String {
        fs::read_to_string(self.path("etc/pve/mapping/pci.cfg")).unwrap()
    }

    fn calls(&self) -> String {
        fs::read_to_string(self.path("calls")).unwrap_or_default()
    }

    async fn ctl(&self, args: &[&str]) -> (i32, String, String) {
        self.ctl_from("", args).await
    }

    async fn ctl_from(&self, from: &str, args: &[&str]) -> (i32, String, String) {
        let tools = self.path("bin");
        fs::create_dir_all(&tools).unwrap();
        let pvesh = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/pvesh");
        fs::copy(pvesh, tools.join("pvesh")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_vfio-bindctl"));
        command
            .arg("--sysfs-root")
            .arg(self.tree.root())
            .arg("--config")
            .arg(self.path("config.toml"))
            .args(args)
            .arg("--root")
            .arg(self.root.path())
            .env_clear()
            .env("PVE_ROOT", self.root.path())
            .env("PVE_MIGRATED_FROM", from)
            .env("PATH", format!("{}:/usr/bin:/bin", tools.display()));
        let run = tokio::task::spawn_blocking(move || command.output().unwrap());
        let output = soon(run).await.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let code = output.status.code().unwrap();
        (code, text(output.stdout), text(output.stderr))
    }

    async fn hook(&self, phase: &str) -> (i32, String) {
        self.hook_from("", phase).await
    }

    /// The same on a node that the guest comes to from another.
    async fn hook_from(&self, from: &str, phase: &str) -> (i32, String) {
        let args = ["hook", "proxmox", "100", phase, "--timeout", "2s"];
        let (code, out, err) = self.ctl_from(from, &args).await;
        assert_eq!(out, "", "{phase}");
        assert!(err.lines().count() <= 1, "{err}");
        (code, err)
    }

    /// A start that is to be refused in such words; nothing is claimed.
    async fn refuses(&self, guest: &str, words: &[&str]) {
        self.guest(guest);
        let (code, err) = self.hook("pre-start").await;
        assert_eq!(code, 1, "{guest}: {err}");
        for word in words {
            assert!(err.contains(word), "{word} is not in {err}");
        }
    }
}

/// Mappings of which `nic` is kept in step with a resource mapping.
fn with_nic<const N: usize>(generation: u64, mappings: [(&str, MappingView); N]) -> Snapshot {
    let mut snapshot = snapshot(generation, mappings);
    let nic = snapshot.mappings.get_mut("nic").unwrap();
    nic.proxmox = Some("nic0".to_owned());
    snapshot
}

fn both() -> Snapshot {
    with_nic(1, [("nic", bound(&[NIC])), ("other", bound(&[OTHER]))])
}

fn these(address: &str) -> Share {
    Share::These(BTreeSet::from([at(address)]))
}

/// This node's name, as PVE has it.
fn node_name() -> String {
    let system = rustix::system::uname();
    let name = system.nodename().to_str().unwrap();
    name.split('.').next().unwrap().to_owned()
}

fn entry(address: &str, group: u32) -> String {
    let node = node_name();
    format!(
        "node={node},path={},id=8086:10d3,subsystem-id=8086:0000,iommugroup={group},\
         description=vfio-bindd",
        address.trim_end_matches(".0")
    )
}

#[tokio::test(flavor = "current_thread")]
async fn a_guest_starts_with_what_its_config_means() {
    if !is_root("the hook claims") {
        return;
    }
    let node = Node::new();
    let mut service = Service::on_socket(node.root.path(), both());
    node.file(
        "etc/pve/mapping/pci.cfg",
        &format!("nic0\n\tmap {}\n\n", entry(NIC, 2)),
    );
    node.guest("name: web\nhostpci0: mapping=nic0,pcie=1\nhostpci1: 00:03,x-vga=1\n\n[PENDING]\n");
    let granted = vec![Ok(NIC), Ok(OTHER)];
    let (done, wishes) = tokio::join!(node.hook("pre-start"), answer(&mut service, granted));
    assert_eq!(done, (0, String::new()));
    for (wish, (mapping, address)) in wishes.iter().zip([("nic", NIC), ("other", OTHER)]) {
        assert_eq!(
            (wish.mapping.as_str(), &wish.share),
            (mapping, &these(address))
        );
        assert_eq!(wish.owner, "pve-100");
        assert!(matches!(wish.lasts, Lasts::For(time) if time.as_secs() == 600));
    }
    // As long as it runs, and no longer.
    let pid = std::process::id();
    node.file("run/qemu-server/100.pid", &format!("{pid}\n"));
    let granted = vec![Ok(NIC), Ok(OTHER)];
    let (done, wishes) = tokio::join!(node.hook("post-start"), answer(&mut service, granted));
    assert_eq!(done.0, 0);
    assert!(wishes.iter().all(|wish| wish.lasts == Lasts::Process(pid)));
    let (done, owner) = tokio::join!(node.hook("post-stop"), released(&mut service));
    assert_eq!((done, owner.as_str()), ((0, String::new()), "pve-100"));
    // Another guest has it.
    let text = "0000:00:02.0 is claimed by 'pve-101'";
    let taken = vec![Ok(NIC), Err(Unclaimed::NoneFree(text.to_owned()))];
    let refused = async {
        answer(&mut service, taken).await;
        released(&mut service).await
    };
    let (done, owner) = tokio::join!(node.hook("pre-start"), refused);
    assert_eq!(done, (1, format!("vfio-bindctl: {text}\n")));
    assert_eq!(owner, "pve-100", "what it had claimed by then is free");
    for phase in ["pre-stop", "pre-migrate", ""] {
        assert_eq!(node.hook(phase).await, (0, String::new()), "{phase}");
    }
    assert!(service.requests.is_empty());
}

#[tokio::test(flavor = "current_thread")]
async fn a_guest_does_not_start_with_what_its_config_does_not_mean() {
    if !is_root("the hook claims") {
        return;
    }
    let node = Node::new();
    let mut service = Service::on_socket(node.root.path(), both());
    node.file(
        "etc/pve/mapping/pci.cfg",
        &format!("nic0\n\tmap {}\n\n", entry(NIC, 7)),
    );
    let sync = "run: vfio-bindctl proxmox sync";
    node.refuses(
        "hostpci0: mapping=nic0\n",
        &["hostpci0: ", "iommugroup=7", sync],
    )
    .await;
    node.file(
        "etc/pve/mapping/pci.cfg",
        &format!("nic0\n\tmap {}\n\n", entry(OTHER, 3)),
    );
    node.refuses(
        "hostpci0: mapping=nic0\n",
        &["has 0000:00:03.0, and mapping 'nic' has not", sync],
    )
    .await;
    node.file(
        "etc/pve/mapping/pci.cfg",
        "nic0\n\tmap node=elsewhere,path=0000:01:00,id=1:2\n\n",
    );
    node.refuses("hostpci0: mapping=nic0\n", &["no entry for the node", sync])
        .await;
    node.refuses(
        "hostpci1: 0000:0A:00.0\n",
        &["100.conf: line 1: hostpci1: "],
    )
    .await;
    node.refuses(
        "hostpci0: 00:03\nhostpci1: 0000:00:03.0\n",
        &["hostpci1: 0000:00:03.0 is passed through as hostpci0 already"],
    )
    .await;
    // It was right once, and the card is elsewhere by now.
    node.guest("hostpci0: 0000:00:02,pcie=1\n");
    let (done, _) = tokio::join!(node.hook("pre-start"), answer(&mut service, vec![Ok(NIC)]));
    assert_eq!(done.0, 0, "{}", done.1);
    let moved = with_nic(2, [("nic", bound(&[OTHER]))]);
    service.publish(moved);
    let told = "hostpci0: 0000:00:02 was mapping 'nic', which is 0000:00:03 now; run: qm set 100 \
                --hostpci0 0000:00:03";
    node.refuses("hostpci0: 0000:00:02,pcie=1\n", &[told]).await;
    // Somebody else's card is there by now, which is no better.
    let others = [("nic", bound(&[OTHER])), ("other", bound(&[NIC]))];
    service.publish(with_nic(3, others));
    node.refuses("hostpci0: 0000:00:02,pcie=1\n", &[told]).await;
    let refused = view(MappingState::Refused, "0000:00:03.0 is in use", &[OTHER]);
    service.publish(with_nic(4, [("nic", refused)]));
    node.refuses(
        "hostpci0: 0000:00:03\n",
        &["mapping 'nic' is refused: 0000:00:03.0 is in use"],
    )
    .await;
    service.publish(with_nic(5, [("nic", bound(&[OTHER]))]));
    fs::remove_file(node.tree.attribute(OTHER, "driver")).unwrap();
    node.refuses("hostpci0: 0000:00:03\n", &["0000:00:03.0 has no driver"])
        .await;
    node.tree.bind(OTHER);
    // Nobody's, but PVE binds all of a group.
    node.tree.add("0000:00:03.1", 3);
    node.refuses(
        "hostpci0: 0000:00:03.0\n",
        &[
            "0000:00:03.1 shares the IOMMU group of 0000:00:03.0 and has no driver",
            "group = \"take\"",
        ],
    )
    .await;
    node.tree.bind("0000:00:03.1");
    fs::remove_file(node.path("dev/vfio/3")).unwrap();
    node.refuses("hostpci0: 0000:00:03\n", &["dev/vfio/3: No such file"])
        .await;
    assert!(service.requests.is_empty());
}

/// Not all functions of a slot are of the mapping, and those that are may be of two: a
/// start does not stand in the way of the next.
#[tokio::test(flavor = "current_thread")]
async fn what_started_once_starts_again() {
    if !is_root("the hook claims") {
        return;
    }
    let node = Node::new();
    let (own, plain, companion) = ("0000:00:02.1", "0000:00:02.2", "0000:00:02.3");
    for (group, address) in [(12, own), (13, plain), (2, companion)] {
        node.tree.add(address, group);
        node.tree.bind(address);
        node.file(&format!("dev/vfio/{group}"), "");
    }
    let mut both = with_nic(1, [("nic", bound(&[NIC])), ("other", bound(&[own]))]);
    both.mappings.get_mut("nic").unwrap().beside = vec![at(companion)];
    let mut service = Service::on_socket(node.root.path(), both);
    node.guest("hostpci0: 00:02\n");
    for _ in 0..2 {
        let granted = vec![Ok(NIC), Ok(own)];
        let (done, wishes) = tokio::join!(node.hook("pre-start"), answer(&mut service, granted));
        assert_eq!(done, (0, String::new()));
        let with_companion = Share::These(BTreeSet::from([at(NIC), at(companion)]));
        assert_eq!(
            (wishes[0].mapping.as_str(), &wishes[0].share),
            ("nic", &with_companion)
        );
        assert_eq!(
            (wishes[1].mapping.as_str(), &wishes[1].share),
            ("other", &these(own))
        );
    }
    service.publish(with_nic(
        2,
        [("nic", bound(&[NIC])), ("other", bound(&[OTHER]))],
    ));
    node.refuses(
        "hostpci0: 00:02\n",
        &["00:02 was mapping 'other', which is 0000:00:03 now"],
    )
    .await;
    assert!(service.requests.is_empty());
}

/// Whoever could not have been asked yet has no say, and what policy refuses is no
/// less a mapping's than what it takes.
#[tokio::test(flavor = "current_thread")]
async fn what_is_not_bound_is_not_for_everybody() {
    let node = Node::new();
    let mut service = Service::on_socket(node.root.path(), Snapshot::starting());
    let map =
        format!("{{\"mappings\":{{\"nic\":{{\"state\":\"bound\",\"addresses\":[\"{NIC}\"]}}}}}}");
    node.file("run/vfio-bindd/map.json", &map);
    node.refuses("hostpci0: 0000:00:02\n", &["its first pass is not over"])
        .await;
    let mut refused = view(MappingState::Refused, "0000:00:02.0 is in use", &[]);
    refused.beside = vec![at(NIC)];
    service.publish(with_nic(1, [("nic", refused)]));
    node.refuses(
        "hostpci0: 0000:00:02\n",
        &["mapping 'nic' is refused: 0000:00:02.0 is in use"],
    )
    .await;
    // One that comes from another node has its config there.
    fs::remove_file(node.path("etc/pve/qemu-server/100.conf")).unwrap();
    assert_eq!(node.hook("pre-start").await.0, 0);
    node.file(
        "etc/pve/nodes/pve2/qemu-server/100.conf",
        "hostpci0: 0000:00:02\n",
    );
    let (code, err) = node.hook_from("pve2", "pre-start").await;
    assert!(
        code == 1 && err.contains("mapping 'nic' is refused"),
        "{err}"
    );
    assert_eq!(node.hook_from("../pve2", "pre-start").await.0, 0);
    assert!(service.requests.try_recv().is_err());
}

/// PVE chooses one of several entries after the hook: what it chose is the guest's own
/// once it runs.
#[tokio::test(flavor = "current_thread")]
async fn a_guest_has_what_it_was_given_of_a_pool() {
    if !is_root("the hook claims") {
        return;
    }
    let node = Node::new();
    let pool = with_nic(1, [("nic", bound(&[NIC, OTHER]))]);
    let mut service = Service::on_socket(node.root.path(), pool);
    let entries = format!(
        "nic0\n\tmap {}\n\tmap {}\n\n",
        entry(NIC, 2),
        entry(OTHER, 3)
    );
    node.file("etc/pve/mapping/pci.cfg", &entries);
    node.guest("hostpci0: mapping=nic0\n");
    assert_eq!(node.hook("pre-start").await, (0, String::new()));
    let pid = std::process::id();
    node.file("run/qemu-server/100.pid", &format!("{pid}\n"));
    node.file(&format!("proc/{pid}/comm"), "kvm\n");
    let reservations = format!("{NIC} 101 pid:{pid}\n{OTHER} 100 pid:{pid}\n{NIC} 100 pid:1\n");
    node.file("run/qemu-server/pci-id-reservations", &reservations);
    let granted = vec![Ok(OTHER)];
    let (done, wishes) = tokio::join!(node.hook("post-start"), answer(&mut service, granted));
    assert_eq!(done, (0, String::new()));
    assert_eq!(wishes[0].share, these(OTHER));
    assert_eq!(wishes[0].lasts, Lasts::Process(pid));
    assert!(service.requests.is_empty());
}

/// A config that is not valid says nothing of whose a device is. The daemon goes on with
/// the one before; where it has none, who had one of ours does not start.
#[tokio::test(flavor = "current_thread")]
async fn a_guest_that_had_our_functions_does_not_start_by_a_bad_config() {
    if !is_root("the hook claims") {
        return;
    }
    let node = Node::new();
    let mut service = Service::on_socket(node.root.path(), both());
    let resources = format!("nic0\n\tmap {}\n\n", entry(NIC, 2));
    node.file("etc/pve/mapping/pci.cfg", &resources);
    let guests = ["hostpci0: mapping=nic0\n", "hostpci0: 0000:00:02\n"];
    for (index, guest) in guests.into_iter().enumerate() {
        node.file("config.toml", CONFIG);
        service.publish(both());
        node.guest(guest);
        let (done, _) = tokio::join!(node.hook("pre-start"), answer(&mut service, vec![Ok(NIC)]));
        assert_eq!(done.0, 0, "{}", done.1);
        node.file("config.toml", "[mapping.nic]\nmatch = {}\n");
        let (done, _) = tokio::join!(node.hook("pre-start"), answer(&mut service, vec![Ok(NIC)]));
        assert_eq!(done, (0, String::new()));
        let failed = Snapshot {
            generation: 10 + u64::try_from(index).unwrap(),
            state: DaemonState::Failed,
            ..Snapshot::starting()
        };
        service.publish(failed);
        node.refuses(guest, &["has no valid config", "would start with whatever"])
            .await;
    }
    assert!(service.requests.is_empty());
}

#[tokio::test(flavor = "current_thread")]
async fn guests_of_others_start_whatever_we_do() {
    let node = Node::new();
    // Nothing to pass through, no such guest, functions of nobody's mapping.
    node.guest("name: plain\nmemory: 512\n");
    assert_eq!(node.hook("pre-start").await, (0, String::new()));
    fs::remove_file(node.path("etc/pve/qemu-server/100.conf")).unwrap();
    assert_eq!(node.hook("pre-start").await, (0, String::new()));
    node.guest("hostpci0: 0000:00:02\nhostpci1: mapping=theirs\n");
    assert_eq!(node.hook("pre-start").await.0, 0);
    // Those that are ours need the daemon, which is not there.
    node.refuses(
        "hostpci0: mapping=nic0\n",
        &["is not running", "would start with whatever"],
    )
    .await;
    let map =
        format!("{{\"mappings\":{{\"nic\":{{\"state\":\"bound\",\"addresses\":[\"{NIC}\"]}}}}}}");
    node.file("run/vfio-bindd/map.json", &map);
    node.refuses("hostpci0: 0000:00:02\n", &["is not running"])
        .await;
    for phase in ["post-start", "pre-stop", "post-stop"] {
        assert_eq!(node.hook(phase).await.0, 0, "{phase}");
    }
}

/// Whoever has the socket and says nothing keeps no guest waiting for ever.
#[tokio::test(flavor = "current_thread")]
async fn a_daemon_that_hangs_stops_its_own_guests_only() {
    let node = Node::new();
    let map =
        format!("{{\"mappings\":{{\"nic\":{{\"state\":\"bound\",\"addresses\":[\"{NIC}\"]}}}}}}");
    node.file("run/vfio-bindd/map.json", &map);
    let _hangs = listener(node.root.path());
    node.refuses(
        "hostpci0: 0000:00:02\n",
        &["vfio-bindd does not answer; the guest has"],
    )
    .await;
    node.refuses("hostpci0: mapping=nic0\n", &["vfio-bindd does not answer"])
        .await;
    node.guest("hostpci0: 0000:00:03\nhostpci1: mapping=theirs\n");
    assert_eq!(node.hook("pre-start").await.0, 0);
    for phase in ["pre-stop", "post-stop"] {
        assert_eq!(node.hook(phase).await.0, 0, "{phase}");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn resource_mappings_follow_the_functions() {
    let node = Node::new();
    let service = Service::on_socket(node.root.path(), with_nic(1, [("nic", bound(&[NIC]))]));
    let theirs = "node=elsewhere,path=0000:01:00,id=8086:10D3,odd=kept";
    let of = |entries: &[&str], more: &str| {
        let lines: String = entries
            .iter()
            .map(|entry| format!("\tmap {entry}\n"))
            .collect();
        format!("other\n\tdescription two  spaces\n\tmap {theirs}\n\n{more}nic0\n{lines}\n")
    };
    let (was, is) = (entry("0000:00:09.0", 9), entry(NIC, 2));
    node.file("etc/pve/mapping/pci.cfg", &of(&[theirs, &was], ""));
    let shown = format!("nic0:\n- {was}\n+ {is}\n");
    let (code, out, err) = node.ctl(&["proxmox", "sync", "--dry-run"]).await;
    assert_eq!((code, out.as_str()), (0, shown.as_str()), "{err}");
    assert_eq!(node.mappings(), of(&[theirs, &was], ""));
    assert_eq!(node.calls(), "");
    let (code, out, err) = node.ctl(&["proxmox", "sync", "--auto"]).await;
    assert_eq!((code, out.as_str()), (0, shown.as_str()), "{err}");
    assert_eq!(node.mappings(), of(&[theirs, &is], ""));
    // Once more, and nobody is asked, let alone written to.
    let before = node.calls();
    assert_eq!(node.ctl(&["proxmox", "sync"]).await.0, 0);
    assert_eq!(node.calls(), before);
    // Somebody else writes between the question and the answer.
    service.publish(with_nic(2, [("nic", bound(&[OTHER]))]));
    let more = "fresh\n\tmap node=x,path=0000:05:00,id=1:2\n\n";
    node.file("somebody-else", more);
    let (code, _, err) = node.ctl(&["proxmox", "sync"]).await;
    assert_eq!(code, 0, "{err}");
    let now = node.mappings();
    assert!(
        now.contains(more) && now.contains(&entry(OTHER, 3)),
        "{now}"
    );
    assert!(!now.contains(&is), "{now}");
    // No quorum: nothing is lost, and it can be tried again.
    service.publish(with_nic(3, [("nic", bound(&[NIC, OTHER]))]));
    node.file("no-quorum", "");
    let (code, _, err) = node.ctl(&["proxmox", "sync"]).await;
    assert!(
        code != 0 && err.contains("nic0: pvesh set") && err.contains("no quorum"),
        "{err}"
    );
    assert_eq!(node.mappings(), now);
    fs::remove_file(node.path("no-quorum")).unwrap();
    assert_eq!(node.ctl(&["proxmox", "sync"]).await.0, 0);
    assert!(node.mappings().contains(&is) && node.mappings().contains(&entry(OTHER, 3)));
    // What is gone goes, but for the last entry.
    let gone = view(MappingState::Absent, "no function matches", &[]);
    service.publish(with_nic(4, [("nic", gone)]));
    assert_eq!(node.ctl(&["proxmox", "sync"]).await.0, 0);
    let now = node.mappings();
    assert!(now.contains(theirs) && !now.contains(&is), "{now}");
    node.file("etc/pve/mapping/pci.cfg", &of(&[&was], ""));
    let (code, out, err) = node.ctl(&["proxmox", "sync"]).await;
    assert_eq!((code, out.as_str()), (0, ""));
    assert!(err.contains("its last entry is stale"), "{err}");
    // Where there is none yet, one is made.
    service.publish(with_nic(5, [("nic", bound(&[NIC]))]));
    node.file("etc/pve/mapping/pci.cfg", "");
    assert_eq!(node.ctl(&["proxmox", "sync"]).await.0, 0);
    assert_eq!(node.mappings(), format!("nic0\n\tmap {is}\n\n"));
    // Unasked it does nothing.
    let off = CONFIG.replace("sync = true", "sync = false");
    node.file("config.toml", &off);
    node.file("etc/pve/mapping/pci.cfg", "");
    assert_eq!(node.ctl(&["proxmox", "sync", "--auto"]).await.0, 0);
    assert_eq!(node.mappings(), "");
}

#[tokio::test(flavor = "current_thread")]
async fn the_hookscript_becomes_a_snippet() {
    let node = Node::new();
    for _ in 0..2 {
        let (code, out, err) = node.ctl(&["proxmox", "enable", "100"]).await;
        assert_eq!(code, 0, "{err}");
        assert_eq!(out, "qm set 100 --hookscript local:snippets/vfio-bindd\n");
    }
    let link = node.path("var/lib/vz/snippets/vfio-bindd");
    let target = fs::read_link(&link).unwrap();
    assert_eq!(target, Path::new("/usr/lib/vfio-bindd/hookscript"));
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink("/root/mine", &link).unwrap();
    let (code, _, err) = node.ctl(&["proxmox", "enable", "100"]).await;
    assert!(
        code == 1 && err.contains("is a link to /root/mine already"),
        "{err}"
    );
    fs::remove_file(&link).unwrap();
    fs::write(&link, "mine").unwrap();
    let (code, _, _) = node.ctl(&["proxmox", "enable", "100"]).await;
    assert_eq!(
        (code, fs::read_to_string(&link).unwrap().as_str()),
        (1, "mine")
    );
}
