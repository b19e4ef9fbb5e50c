//! The hook, at each moment of a domain.

use std::collections::BTreeSet;

use vfio_bindd::{
    bus::request::Lasts,
    engine::{
        claims::{Share, Unclaimed},
        snapshot::{DaemonState, MappingState, Snapshot},
    },
};

use super::{Host, NIC, NIC_0, OTHER, both, domain};
use crate::{
    private_bus::is_root,
    service::{Service, answer, bound, pending, released, snapshot, view},
    support::at,
};

#[tokio::test(flavor = "current_thread")]
async fn a_domain_has_its_functions_from_its_start_to_its_end() {
    if !is_root("the hook claims") {
        return;
    }
    let host = Host::new();
    let mut service = Service::on_socket(host.root.path(), both());
    let web = domain(
        "web",
        "<v:mapping name='nic'/>",
        &[NIC_0, (OTHER, "hostdev1")],
    );
    let granted = || vec![Ok(NIC), Ok(OTHER)];
    let start = host.hook("prepare begin -", &web);
    let (done, wishes) = tokio::join!(start, answer(&mut service, granted()));
    assert_eq!(done, (0, String::new()));
    for (wish, (mapping, address)) in wishes.iter().zip([("nic", NIC), ("other", OTHER)]) {
        let share = Share::These(BTreeSet::from([at(address)]));
        assert_eq!((wish.mapping.as_str(), &wish.share), (mapping, &share));
        assert_eq!(wish.owner, "libvirt-web");
        assert!(matches!(wish.lasts, Lasts::For(time) if time.as_secs() == 600));
    }
    assert_eq!(host.hook("start begin -", &web).await, (0, String::new()));
    // As long as it runs, and without a process until it is released.
    for moment in ["started begin -", "reconnect begin -", "attach begin -"] {
        let runs = host.hook(moment, &web);
        let (done, wishes) = tokio::join!(runs, answer(&mut service, granted()));
        assert_eq!(done.0, 0);
        assert!(wishes.iter().all(|wish| wish.lasts == Lasts::UntilReleased));
    }
    let pid = std::process::id();
    host.file("run/libvirt/qemu/web.pid", &format!("{pid}\n"));
    let runs = host.hook("started begin -", &web);
    let (done, wishes) = tokio::join!(runs, answer(&mut service, granted()));
    assert_eq!(done.0, 0);
    assert!(wishes.iter().all(|wish| wish.lasts == Lasts::Process(pid)));
    let ended = host.hook("release end destroyed", &web);
    let (done, owner) = tokio::join!(ended, released(&mut service));
    assert_eq!((done, owner.as_str()), ((0, String::new()), "libvirt-web"));
    // Its functions were unplugged meanwhile.
    let none = domain("web", "", &[]);
    let claims = "{\"mappings\":{\"nic\":{\"claims\":{\"0000:00:02.0\":\"libvirt-web\"}}}}";
    host.file("run/vfio-bindd/map.json", claims);
    let ended = host.hook("release end -", &none);
    let (done, owner) = tokio::join!(ended, released(&mut service));
    assert_eq!((done.0, owner.as_str()), (0, "libvirt-web"));
    // Another domain has it.
    let text = "0000:00:03.0 is claimed by 'libvirt-db'";
    let taken = vec![Ok(NIC), Err(Unclaimed::NoneFree(text.to_owned()))];
    let refused = async {
        answer(&mut service, taken).await;
        released(&mut service).await
    };
    let (done, owner) = tokio::join!(host.hook("prepare begin -", &web), refused);
    assert_eq!(done, (1, format!("vfio-bindctl: {text}\n")));
    assert_eq!(owner, "libvirt-web", "what it had claimed by then is free");
    // What is no owner's name is told apart by the UUID.
    let odd = web.replace("</name>", "</name><uuid>4dea22b3</uuid>");
    let root = host.root.path().to_str().unwrap().to_owned();
    let args = [
        "hook", "libvirt", "--root", &root, "--", "web ", "release", "end", "-",
    ];
    let (done, owner) = tokio::join!(host.ctl(&args, &odd), released(&mut service));
    assert_eq!((done.0, owner.as_str()), (0, "libvirt-4dea22b3"));
    for moment in [
        "stopped end -",
        "migrate begin -",
        "restore begin -",
        "new begin",
    ] {
        assert_eq!(
            host.hook(moment, "no XML").await,
            (0, String::new()),
            "{moment}"
        );
    }
    assert!(service.requests.is_empty());
}

#[tokio::test(flavor = "current_thread")]
async fn a_domain_does_not_start_with_what_its_definition_does_not_mean() {
    let host = Host::new();
    let service = Service::on_socket(host.root.path(), both());
    let nic = domain("web", "", &[NIC_0]);
    let moved = [("nic", bound(&[OTHER])), ("other", bound(&[NIC]))];
    service.publish(snapshot(2, moved));
    let told = "hostdev 'ua-vfio-bindd-nic-0' is 0000:00:02.0, and mapping 'nic' is 0000:00:03.0 \
                now; run: vfio-bindctl libvirt update web";
    host.refuses(&nic, &[told]).await;
    let asks = domain("web", "<v:mapping name='nic'/>", &[]);
    host.refuses(
        &asks,
        &["has no 0000:00:03.0; run: vfio-bindctl libvirt update web"],
    )
    .await;
    let refused = view(MappingState::Released, "the host has it", &[NIC]);
    service.publish(snapshot(3, [("nic", refused)]));
    host.refuses(&nic, &["mapping 'nic' is released: the host has it"])
        .await;
    let plain = domain("web", "", &[(NIC, "hostdev0")]);
    host.refuses(
        &plain,
        &["hostdev 'hostdev0' is 0000:00:02.0, and mapping 'nic' is released"],
    )
    .await;
    service.publish(snapshot(4, [("nic", pending(&[NIC]))]));
    host.refuses(&nic, &["mapping 'nic' is pending: is not bound yet"])
        .await;
    // Nothing of that keeps others waiting.
    let theirs = domain("web", "", &[("0000:07:00.0", "hostdev0")]);
    assert_eq!(
        host.hook("prepare begin -", &theirs).await,
        (0, String::new())
    );
    for (wrong, words) in [
        ("", "the domain's XML, line 1, column 1: it has no element"),
        ("<network/>", "no <domain>"),
        ("<domain>\u{0}", "the domain's XML"),
        (&domain("web", "<v:map/>", &[]), "unknown element <map>"),
        (
            &domain("web", "", &[(NIC, "ua-vfio-bindd-nic")]),
            "is not ua-vfio-bindd-NAME-N",
        ),
    ] {
        host.refuses(wrong, &[words]).await;
        for moment in ["started begin -", "reconnect begin -", "release end -"] {
            let (code, err) = host.hook(moment, wrong).await;
            assert!(code == 0 && err.contains(words), "{moment}: {err}");
        }
    }
    let failed = Snapshot {
        generation: 5,
        state: DaemonState::Failed,
        ..Snapshot::starting()
    };
    service.publish(failed);
    host.refuses(&nic, &["has no valid config", "would start with whatever"])
        .await;
    assert!(service.requests.is_empty());
}

#[tokio::test(flavor = "current_thread")]
async fn domains_of_others_start_whatever_we_do() {
    // Nobody serves on this bus.
    let host = Host::new();
    let map =
        format!("{{\"mappings\":{{\"nic\":{{\"state\":\"bound\",\"addresses\":[\"{NIC}\"]}}}}}}");
    host.file("run/vfio-bindd/map.json", &map);
    let plain = domain("web", "", &[]);
    let others = domain("web", "", &[(OTHER, "hostdev0")]);
    assert_eq!(
        host.hook("prepare begin -", &plain).await,
        (0, String::new())
    );
    assert_eq!(host.hook("prepare begin -", &others).await.0, 0);
    for ours in [
        domain("web", "", &[(NIC, "hostdev0")]),
        domain("web", "", &[(OTHER, "ua-vfio-bindd-nic-0")]),
        domain("web", "<v:mapping name='nic'/>", &[]),
    ] {
        host.refuses(&ours, &["is not running", "would start with whatever"])
            .await;
        for moment in ["started begin -", "reconnect begin -", "release end -"] {
            assert_eq!(host.hook(moment, &ours).await.0, 0, "{moment}");
        }
    }
    let root = host.root.path().to_str().unwrap();
    let (code, _, err) = host
        .ctl(&["hook", "libvirt", "--root", root, "web"], "")
        .await;
    assert!(code == 2 && err.contains("<OPERATION>"), "{err}");
}
