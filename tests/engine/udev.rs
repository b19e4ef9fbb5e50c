//! What waits for udev, and what udev waits for.

use std::time::Duration;

use vfio_bindd::{
    engine::{
        event::Event,
        snapshot::{DaemonState, MappingState},
        state::State,
    },
    pci::{
        function::{Function, Inspection},
        id::ClassCode,
    },
    policy::{model::Policy, resolve::Held},
};

use crate::{
    drive::{Drive as _, Engine},
    host::{A, B, Host},
    nics,
    support::{FunctionExt as _, at, by_address, mapping, nic, policy, up},
};

/// Plugs in another one of the NICs, with a udev that waits for it.
fn arrives(host: &mut Host, function: Function) {
    let address = function.address;
    host.inspections.insert(address, Inspection::default());
    host.inventory
        .insert(function.with(|one| one.inspection = None));
    host.event(Event::Arrived(address));
}

#[test]
fn udev_waits_for_a_function_until_it_is_bound() {
    let mut host = Host::new([]);
    host.start(&nics());
    host.hang.insert(at(A));
    // Both tell of it, and its inspection takes its time.
    host.event(Event::Changed(at(A)));
    arrives(&mut host, nic(A));
    assert_eq!(host.settled, []);
    host.hang.clear();
    host.hang_writes.insert(at(A));
    for effect in std::mem::take(&mut host.hanging) {
        let event = host.answer(effect).unwrap();
        host.event(event);
    }
    assert_eq!(host.settled, [], "it is being bound");
    host.hang_writes.clear();
    for effect in std::mem::take(&mut host.hanging) {
        let event = host.answer(effect).unwrap();
        host.event(event);
    }
    assert_eq!(host.applied, [at(A)]);
    assert_eq!(host.settled, [at(A)]);
    assert_eq!(host.mapping().0, MappingState::Bound);
}

#[test]
fn udev_does_not_wait_for_what_nobody_binds() {
    let unwanted = nic(B).with(|one| one.id = "10de:2684".parse().unwrap());
    let mut host = Host::new([]);
    host.start(&nics());
    arrives(&mut host, unwanted);
    assert_eq!(host.settled, [at(B)]);
    // One that cannot be bound is tried again, and udev goes on.
    host.fail.insert(at(A));
    arrives(&mut host, nic(A));
    assert_eq!(host.settled, [at(B), at(A)]);
    // And one that was out again before it was looked at.
    host.event(Event::Arrived(at("0000:09:00.0")));
    assert_eq!(host.settled.last(), Some(&at("0000:09:00.0")));
    // Nor for one that is stuck, once that is clear.
    host.fail.clear();
    host.hang.insert(at(A));
    arrives(&mut host, nic(A));
    assert_eq!(host.settled.len(), 3);
    host.wait(Duration::from_secs(11));
    assert_eq!(host.settled.get(3), Some(&at(A)));
}

#[test]
fn udev_waits_neither_for_the_first_pass_nor_for_a_dry_run() {
    let mut boot = Host::new([nic(A).driver("e1000e")]);
    boot.hang.insert(at(A));
    boot.start(&nics());
    assert_eq!(boot.snapshot().state, DaemonState::Starting);
    let before = boot.engine.state.snapshot().clone();
    arrives(&mut boot, nic(B));
    assert_eq!(boot.settled, [at(B)]);
    assert_eq!(
        *boot.engine.state.snapshot(),
        before,
        "the kernel tells of it"
    );
    let mut unconfigured = Host::new([]);
    unconfigured.event(Event::Config(Err("no".to_owned())));
    arrives(&mut unconfigured, nic(A));
    assert_eq!(unconfigured.settled, [at(A)]);
    let mut dry = Host::new([]);
    dry.engine = Engine::new(State::new(Held::new(), true));
    dry.start(&nics());
    arrives(&mut dry, nic(A));
    assert_eq!((dry.settled, dry.applied), (vec![at(A)], Vec::new()));
}

/// Two functions at boot, of which only the NIC is of a class that the host may
/// need.
fn booting() -> (Host, Policy) {
    let mut host = Host::new([
        nic("0000:01:00.0"),
        nic("0000:02:00.0").with(|one| one.class = ClassCode::new(0x04_0300)),
    ]);
    host.engine = Engine::new(State::new(Held::new(), false).awaiting_udev());
    let every = |address| mapping(vec![by_address(address)]);
    let both = [
        ("m", every("0000:01:00.0")),
        ("sound", every("0000:02:00.0")),
    ];
    (host, policy(both))
}

#[test]
fn what_the_host_may_need_waits_for_udev_and_for_a_look_after_it() {
    let (mut host, config) = booting();
    host.start(&config);
    assert_eq!(host.applied, [at("0000:02:00.0")]);
    assert_eq!(host.snapshot().state, DaemonState::Starting);
    let mapping = host.snapshot().mappings.get("m").unwrap();
    assert_eq!(mapping.state, MappingState::Pending);
    assert_eq!(
        mapping.reason,
        "0000:01:00.0 waits until udev has been through the devices of this boot"
    );
    // Its driver came, and now there is something to be seen.
    let function = host.inventory.get_mut(at("0000:01:00.0")).unwrap();
    function.driver = Some("e1000e".to_owned());
    let found = host.inspections.get_mut(&at("0000:01:00.0")).unwrap();
    found.usage = vec![up("eth0")];
    host.event(Event::UdevIdle { all_along: false });
    assert_eq!(host.applied, [at("0000:02:00.0")]);
    assert_eq!(host.mapping().0, MappingState::Refused);
    assert_eq!(host.snapshot().state, DaemonState::Degraded);
}

#[test]
fn an_idle_udev_has_nothing_looked_at_twice() {
    let (mut host, config) = booting();
    host.start(&config);
    host.inspections.clear();
    host.event(Event::UdevIdle { all_along: true });
    assert_eq!(host.applied, [at("0000:02:00.0"), at("0000:01:00.0")]);
    assert_eq!(host.snapshot().state, DaemonState::Ready);
}

#[test]
fn guests_do_not_wait_for_a_udev_that_never_ends() {
    let (mut host, config) = booting();
    host.start(&config);
    host.wait(Duration::from_secs(31));
    assert_eq!(host.snapshot().state, DaemonState::Degraded);
    assert_eq!(host.applied, [at("0000:02:00.0")]);
    // Nor does udev wait for what waits for udev.
    arrives(&mut host, nic(A));
    assert_eq!(host.settled, [at(A)]);
    assert_eq!(host.applied, [at("0000:02:00.0")]);
    host.event(Event::UdevIdle { all_along: false });
    assert_eq!(host.snapshot().state, DaemonState::Ready);
}
