//! Scripts of events: what hangs, and what an earlier daemon began.

use std::time::Duration;

use vfio_bindd::{
    engine::{
        event::{Event, Unfinished},
        report::Report,
        snapshot::{DaemonState, MappingState, PfState},
        state::State,
    },
    policy::resolve::Held,
};

use crate::{PF, drive::Engine, engine::mapping, entry, host::Host, support::at, vf_at};

#[test]
fn a_kernel_that_does_not_come_back_is_told_and_not_asked_again() {
    let mut host = Host::new(2);
    host.hang.insert("make");
    host.start(&entry("4", ""));
    let kept = &host.kept[&at(PF)];
    assert_eq!((&*kept.doing, kept.makes_vfs), ("making 4 VFs", true));
    host.wait_for(59);
    assert_eq!(host.pf().0, PfState::Pending);
    host.wait_for(2);
    let why = "does not come back from making 4 VFs";
    assert_eq!(host.pf(), (PfState::Stuck, why));
    assert_eq!(host.snapshot().state, DaemonState::Degraded);
    assert!(host.kept[&at(PF)].late);
    host.run(Event::Audit);
    host.run(Event::Changed(at(PF)));
    host.run(Event::Rescan);
    host.pass(300);
    assert_eq!(host.times("make 4"), 1);
    // It does, after all.
    host.go_on();
    assert_eq!(host.vfs(), 4);
    assert_eq!(host.pf(), (PfState::Ready, ""));
    assert!(host.kept.is_empty());
    assert!(host.reports.contains(&Report::CameBack { address: at(PF) }));
}

#[test]
fn vfs_stay_while_one_is_stuck() {
    let mut host = Host::new(2);
    host.hang.insert("bind");
    let mapping = "[mapping.vms]\nmatch = { vf_of = \"3b:00.0\" }\n";
    host.start(&entry("4", mapping));
    host.pass(120);
    assert_eq!(host.times("make 4"), 0);
    let why = format!("keeps its 2 VFs: {} is stuck", vf_at(0));
    assert_eq!(host.pf(), (PfState::Refused, why.as_str()));
    host.go_on();
    assert_eq!((host.times("make 4"), host.vfs()), (1, 4));
}

#[test]
fn what_an_earlier_daemon_began_is_waited_for() {
    let mut host = Host::new(0);
    let begun = Unfinished {
        doing: "making 4 VFs".to_owned(),
        group: None,
        makes_vfs: true,
        late: false,
    };
    host.run(Event::Unfinished(vec![(at(PF), begun)]));
    host.start(&entry("4", ""));
    host.pass(5);
    assert_eq!(host.done(), [""; 0]);
    assert_eq!(host.pf(), (PfState::Pending, "gets 4 VFs"));
    // It got as far as it got.
    host.make(4);
    host.run(Event::Finished(at(PF)));
    assert_eq!(host.times("make 4"), 0);
    assert_eq!(host.pf(), (PfState::Ready, ""));
    assert_eq!(host.snapshot().state, DaemonState::Ready);
}

#[test]
fn what_an_earlier_daemon_began_and_did_not_end_is_begun_again() {
    let mut host = Host::new(0);
    let begun = Unfinished {
        doing: "making 4 VFs".to_owned(),
        group: None,
        makes_vfs: true,
        late: true,
    };
    host.run(Event::Unfinished(vec![(at(PF), begun)]));
    host.start(&entry("4", ""));
    let why = "does not come back from making 4 VFs";
    assert_eq!(host.pf(), (PfState::Stuck, why));
    assert_eq!(host.snapshot().state, DaemonState::Degraded);
    // That one was killed before it wrote.
    host.run(Event::Finished(at(PF)));
    assert_eq!((host.times("make 4"), host.vfs()), (1, 4));
    assert_eq!(host.pf(), (PfState::Ready, ""));
}

#[test]
fn vfs_that_an_earlier_daemon_is_taking_away_are_nobodys_and_who_holds_them_is_named() {
    let mut host = Host::new(4);
    for index in 0..4 {
        let vf = host.inventory.get_mut(at(&vf_at(index))).unwrap();
        vf.driver = Some("vfio-pci".to_owned());
    }
    let begun = Unfinished {
        doing: "making 2 VFs".to_owned(),
        group: None,
        makes_vfs: true,
        late: true,
    };
    // Whatever else hangs there takes none away.
    let looked = Unfinished {
        makes_vfs: false,
        ..begun.clone()
    };
    for (what, state) in [
        (looked, MappingState::Bound),
        (begun, MappingState::Pending),
    ] {
        host.engine = Engine::new(State::new(Held::new(), false));
        host.run(Event::Unfinished(vec![(at(PF), what)]));
        host.start(&entry("2", &mapping(4)));
        assert_eq!(host.mapping().0, state);
    }
    host.claim(1);
    assert!(host.granted[&1].is_err());
    let holder = "qemu (pid 7) has /dev/vfio/21 open".to_owned();
    host.run(Event::Holders(at(PF), vec![holder]));
    let why = "does not come back from making 2 VFs: qemu (pid 7) has /dev/vfio/21 open";
    assert_eq!(host.pf(), (PfState::Stuck, why));
}

#[test]
fn a_late_one_about_settings_is_told_too() {
    let mut host = Host::new(1);
    host.hang.insert("set");
    host.start(&entry("1", "[[sriov.nics.vf]]\ntrust = true\n"));
    // Each VF takes its time.
    host.wait_for(12);
    assert_eq!(host.pf().0, PfState::Pending);
    host.wait_for(2);
    let why = "does not come back from setting its VFs";
    assert_eq!(host.pf(), (PfState::Stuck, why));
    host.pass(120);
    assert_eq!(host.times("set 1"), 1);
    host.go_on();
    assert_eq!(host.pf(), (PfState::Ready, ""));
}

impl Host {
    /// Lets time pass while nothing comes back.
    fn wait_for(&mut self, seconds: u64) {
        crate::drive::Drive::wait(self, Duration::from_secs(seconds));
    }
}
