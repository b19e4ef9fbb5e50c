//! What helpers are asked and what they answer, there and back.

use std::path::Path;

use tokio::time::{Duration, timeout};
use vfio_bindd::{
    kernel::{
        helper::{
            pool::Pool,
            protocol::{Reply, Request},
        },
        sriov::{Made, MakeVfs, SettleVfs, Settled},
        usage::Handles,
    },
    policy::sriov::{LinkState, Rate, Setting, VfSettings, Vlan, VlanProtocol},
};

use crate::make::the_pf;

fn everything() -> VfSettings {
    let mut all = VfSettings::default();
    for one in [
        Setting::Mac("52:54:00:00:00:01".parse().unwrap()),
        Setting::Vlan(Vlan::new(5, 3, VlanProtocol::Service)),
        Setting::Rate(Rate { min: 1, max: 2 }),
        Setting::SpoofCheck(false),
        Setting::LinkState(LinkState::Enable),
        Setting::Trust(true),
    ] {
        all.set(one);
    }
    all
}

fn requests() -> [Request; 2] {
    let make = MakeVfs {
        pf: the_pf(),
        count: 4,
        autoprobe: true,
    };
    let settle = SettleVfs {
        pf: the_pf(),
        settings: [(0, everything()), (7, VfSettings::default())].into(),
        again: [7].into(),
    };
    [Request::MakeVfs(make), Request::SettleVfs(settle)]
}

#[test]
fn what_is_sent_is_what_arrives() {
    for request in requests() {
        let line = serde_json::to_string(&request).unwrap();
        assert_eq!(serde_json::from_str::<Request>(&line).unwrap(), request);
        assert_eq!(request.address(), Some(the_pf().address));
    }
    let text = "a clause".to_owned();
    let settled = Settled::Done {
        changed: [(3, everything())].into(),
        wrong: [(4, text.clone())].into(),
        waiting: [(5, text.clone())].into(),
    };
    let failed = Settled::Failed { text: text.clone() };
    let settled = [settled, failed, Settled::Gone].map(Reply::Settled);
    let made = [
        Made::Has { before: 0, now: 4 },
        Made::Gone,
        Made::Refused { text: text.clone() },
        Made::Failed { text: text.clone() },
        Made::Back { now: 4, text },
    ];
    for reply in made.map(Reply::Made).into_iter().chain(settled) {
        let line = serde_json::to_string(&reply).unwrap();
        assert_eq!(serde_json::from_str::<Reply>(&line).unwrap(), reply);
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_helper_answers_each_with_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let root: &Path = folder.path();
    let arguments = ["--helper", "--sysfs-root"].map(Into::into);
    let arguments = arguments.into_iter().chain([root.as_os_str().to_owned()]);
    let program = env!("CARGO_BIN_EXE_vfio-bindd").into();
    let pool = Pool::of_program(program, arguments.collect());
    let gone = [Reply::Made(Made::Gone), Reply::Settled(Settled::Gone)];
    for (request, wanted) in requests().iter().zip(gone) {
        let soon = Duration::from_secs(20);
        let mut lease = timeout(soon, pool.lease()).await.unwrap().unwrap();
        let mut reply = timeout(soon, lease.ask(request)).await.unwrap().unwrap();
        // Who keeps a PF from letting its VFs go is found by what is taken down before.
        if matches!(request, Request::MakeVfs(_)) {
            let none = Handles {
                vfs_only: true,
                ..Handles::default()
            };
            assert_eq!(reply, Reply::Handles(none));
            reply = timeout(soon, lease.next()).await.unwrap().unwrap();
        }
        assert_eq!(reply, wanted);
        lease.done();
    }
}
