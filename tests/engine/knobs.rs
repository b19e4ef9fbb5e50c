//! What settings functions have: before a mapping is told as bound, and as long as
//! it is.

use std::time::Duration;

use vfio_bindd::{
    engine::{
        event::{Effect, Event, Noted, Standing, Tuned},
        report::Report,
        snapshot::{DaemonState, FunctionState, MappingState},
        state::State,
    },
    pci::settings::{Power, Settings},
    policy::{
        knobs::{Knobs, ResetMethod},
        model::{Extent, Mapping, Policy},
        plan::Verdict,
        resolve::Held,
    },
};

use crate::{
    drive::Drive as _,
    host::{A, B, Host},
    support::{FunctionExt as _, at, by_address, by_id, mapping, nic, planned, policy},
};

fn flr() -> Knobs {
    Knobs {
        reset_method: vec![ResetMethod::Flr],
        d3cold: Some(false),
        ..Knobs::default()
    }
}

fn with(mapping: Mapping, knobs: Knobs) -> Mapping {
    Mapping { knobs, ..mapping }
}

/// All NICs.
fn reset_by_flr() -> Policy {
    policy([("m", with(mapping(vec![by_id("8086:10d3")]), flr()))])
}

const TUNE_A: &str = "tune 0000:01:00.0 reset_method \"flr\", d3cold false";

#[test]
fn nothing_is_told_as_bound_before_its_settings_are_so() {
    let mut host = Host::new([nic(A).driver("e1000e"), nic(B)]);
    host.hang_knobs.insert(at(B));
    host.start(&reset_by_flr());
    host.wait(Duration::from_secs(2));
    assert_eq!(host.mapping().0, MappingState::Pending);
    assert_eq!(
        host.snapshot().mappings["m"].reason,
        format!("{B} is bound, and gets reset_method \"flr\", d3cold false")
    );
    assert_eq!(host.snapshot().state, DaemonState::Starting);
    let state = |one: &str| host.snapshot().functions[&at(one)].state;
    assert_eq!(
        (state(A), state(B)),
        (FunctionState::Bound, FunctionState::Pending)
    );
    // A helper that may hang in the kernel is known to the next daemon.
    assert!(host.kept.contains_key(&at(B)), "{:?}", host.kept);
    host.hang_knobs.clear();
    let found = flr().settings();
    let changed = Settings::default();
    host.event(Event::Tuned(at(B), Tuned::Set { changed, found }));
    assert_eq!(host.mapping(), (MappingState::Bound, format!("{A} {B}")));
    assert_eq!(host.snapshot().state, DaemonState::Ready);
    assert!(host.kept.is_empty());
}

#[test]
fn an_apply_carries_what_is_wanted() {
    let host = [nic(A), nic(B)].into_iter().collect();
    let plan = planned(&host, &reset_by_flr());
    assert_eq!(plan.actions.len(), 2);
    assert!(plan.actions.iter().all(|action| action.knobs == flr()));
    let text = serde_json::to_string(&plan).unwrap();
    let wanted = r#""knobs":{"reset_method":["flr"],"d3cold":false}"#;
    assert!(text.contains(wanted), "{text}");
}

#[test]
fn what_is_bound_already_is_tuned_too() {
    let mut host = Host::new([nic(A).driver("vfio-pci")]);
    host.start(&reset_by_flr());
    assert_eq!(host.mapping(), (MappingState::Bound, A.to_owned()));
    assert_eq!(host.order, ["rules", TUNE_A]);
    assert_eq!(host.settings[&at(A)], flr().settings());
    let told = host.reports.iter();
    let told = told.filter(|one| matches!(one, Report::Tuned { .. }));
    assert_eq!(told.count(), 1);
}

#[test]
fn without_a_wish_nothing_is_touched() {
    let mut host = Host::new([nic(A).driver("vfio-pci"), nic(B)]);
    host.start(&policy([("m", mapping(vec![by_id("8086:10d3")]))]));
    host.event(Event::Audit);
    assert_eq!(host.order, ["rules", &format!("bind {B}")]);
    assert!(host.settings.is_empty());
}

#[test]
fn a_dry_run_touches_nothing_and_waits_for_nobody() {
    let mut host = Host::new([nic(A).driver("vfio-pci")]);
    host.engine.state = State::new(Held::new(), true);
    host.start(&reset_by_flr());
    assert!(host.order.is_empty(), "{:?}", host.order);
    assert_eq!(host.mapping().0, MappingState::Bound);
}

#[test]
fn an_audit_looks_again_without_a_word() {
    let mut host = Host::new([nic(A)]);
    host.start(&reset_by_flr());
    let generation = host.snapshot().generation;
    host.order.clear();
    host.event(Event::Audit);
    assert_eq!(host.order, [TUNE_A]);
    assert_eq!(host.snapshot().generation, generation);
    // Somebody had changed it.
    host.settings.clear();
    host.event(Event::Audit);
    assert_eq!(host.settings[&at(A)], flr().settings());
    assert_eq!(host.mapping().0, MappingState::Bound);
}

#[test]
fn what_a_device_does_not_offer_is_said_once_and_tried_again_with_news_only() {
    let mut host = Host::new([nic(A).driver("vfio-pci")]);
    let why = "does not offer reset_method \"flr\", but: pm bus";
    host.unoffered.insert(at(A), why.to_owned());
    host.start(&reset_by_flr());
    let told = |host: &Host| host.snapshot().mappings["m"].reason.clone();
    assert_eq!(host.mapping().0, MappingState::Refused);
    assert_eq!(told(&host), format!("{A} is bound, but {why}"));
    // Nobody waits for it at boot, and nobody is busy with it.
    assert_eq!(host.snapshot().state, DaemonState::Degraded);
    host.order.clear();
    host.wait(Duration::from_secs(600));
    assert_eq!(host.order, [""; 0]);
    host.event(Event::Audit);
    assert_eq!(host.order, [TUNE_A]);
    // Another wish is another matter.
    host.unoffered.clear();
    let bus = Knobs {
        reset_method: vec![ResetMethod::Bus],
        ..Knobs::default()
    };
    host.start(&policy([("m", with(mapping(vec![by_address(A)]), bus))]));
    assert_eq!(host.mapping().0, MappingState::Bound);
}

#[test]
fn what_cannot_be_set_is_tried_again() {
    let mut host = Host::new([nic(A).driver("vfio-pci"), nic(B).driver("vfio-pci")]);
    host.rigid.insert(
        at(B),
        "d3cold is true and not false: input/output error".to_owned(),
    );
    host.start(&reset_by_flr());
    assert_eq!(host.mapping().0, MappingState::Failed);
    assert_eq!(
        host.snapshot().mappings["m"].reason,
        format!(
            "{B} is bound, and its settings are not reset_method \"flr\", d3cold false: d3cold is \
             true and not false: input/output error"
        )
    );
    host.rigid.clear();
    host.wait(Duration::from_secs(5));
    assert_eq!(host.mapping().0, MappingState::Bound);
}

#[test]
fn who_wants_nothing_does_not_wait_for_who_does() {
    let mut host = Host::new([nic(A).driver("vfio-pci")]);
    host.unoffered.insert(at(A), "does not offer it".to_owned());
    host.start(&policy([
        ("m", mapping(vec![by_address(A)])),
        ("theirs", with(mapping(vec![by_address(A)]), flr())),
    ]));
    assert_eq!(host.mapping(), (MappingState::Bound, A.to_owned()));
    let theirs = &host.snapshot().mappings["theirs"];
    assert_eq!(theirs.state, MappingState::Refused);
}

#[test]
fn what_is_wanted_no_more_becomes_what_it_was_and_once() {
    let mut host = Host::new([nic(A)]);
    host.start(&reset_by_flr());
    host.order.clear();
    let plain = policy([("m", mapping(vec![by_id("8086:10d3")]))]);
    host.start(&plain);
    assert_eq!(host.order, [format!("tune {A} ")]);
    assert_eq!(host.settings[&at(A)], Settings::default());
    host.order.clear();
    host.event(Event::Audit);
    assert_eq!(host.order, [""; 0]);
    // Also what an earlier daemon changed.
    let mut next = Host::new([nic(A).driver("vfio-pci")]);
    next.engine.state = State::new(Held::new(), false).awaiting_journal();
    next.start(&plain);
    assert_eq!(next.order, [""; 0]);
    let noted = Noted {
        address: at(A),
        mappings: vec!["m".to_owned()],
        standing: Standing::Taken,
        tuned: true,
    };
    next.event(Event::Journal {
        entries: vec![noted],
        trouble: Vec::new(),
    });
    assert_eq!(next.order, ["rules".to_owned(), format!("tune {A} ")]);
}

#[test]
fn what_is_left_over_keeps_what_it_has() {
    let mut host = Host::new([nic(A), nic(B)]);
    host.start(&reset_by_flr());
    host.order.clear();
    host.start(&policy([("m", with(mapping(vec![by_address(B)]), flr()))]));
    let tuned = |one: &&String| one.starts_with(&format!("tune {A}"));
    assert_eq!(host.order.iter().find(tuned), None, "{:?}", host.order);
    assert_eq!(host.settings[&at(A)], flr().settings());
}

#[test]
fn settings_are_asked_of_what_matches_and_not_of_what_comes_with_it() {
    let host = [nic(A), nic("0000:01:00.1")].into_iter().collect();
    let whole = Mapping {
        extent: Extent::Slot,
        ..with(mapping(vec![by_address(A)]), flr())
    };
    let plan = planned(&host, &policy([("m", whole)]));
    assert_eq!(plan.actions.len(), 2);
    assert_eq!(plan.knobs.keys().copied().collect::<Vec<_>>(), [at(A)]);
}

#[test]
fn mappings_that_disagree_are_refused_each_naming_the_other() {
    let two = |first: Knobs, second: Knobs| {
        policy([
            ("a", with(mapping(vec![by_address(A)]), first)),
            ("b", with(mapping(vec![by_id("8086:10d3")]), second)),
        ])
    };
    let host = [nic(A), nic(B)].into_iter().collect();
    // What they want adds up, and who wants nothing has nothing against it.
    let on = Knobs {
        power: Some(Power::On),
        ..Knobs::default()
    };
    let plan = planned(&host, &two(flr(), on.clone()));
    let both = Knobs {
        power: Some(Power::On),
        ..flr()
    };
    assert_eq!(plan.knobs[&at(A)], both);
    assert_eq!(plan.knobs[&at(B)], on);
    let plan = planned(&host, &two(flr(), Knobs::default()));
    assert_eq!(plan.knobs.keys().copied().collect::<Vec<_>>(), [at(A)]);
    let cold = Knobs {
        d3cold: Some(true),
        ..Knobs::default()
    };
    let plan = planned(&host, &two(flr(), cold));
    for (name, other) in [("a", "b"), ("b", "a")] {
        let mapping = &plan.mappings[name];
        assert_eq!(mapping.verdict, Verdict::Refused);
        assert_eq!(
            mapping.reason,
            format!("{A} is also in mapping '{other}', which wants another d3cold for it")
        );
    }
    assert!(plan.knobs.is_empty() && plan.actions.is_empty());
}

#[test]
fn a_function_that_goes_and_comes_is_tuned_anew() {
    let mut host = Host::new([nic(A)]);
    host.start(&reset_by_flr());
    let gone = host.inventory.remove(at(A)).unwrap();
    host.event(Event::Removed(at(A)));
    host.settings.clear();
    host.order.clear();
    host.inventory.insert(gone.with(|one| one.driver = None));
    host.event(Event::Changed(at(A)));
    assert_eq!(host.order, [&format!("bind {A}"), TUNE_A]);
    assert_eq!(host.mapping().0, MappingState::Bound);
}

#[test]
fn many_are_tuned_a_few_at_a_time() {
    let many: Vec<_> = (1..=20).map(|bus| format!("0000:{bus:02x}:00.0")).collect();
    let mut host = Host::new(many.iter().map(|one| nic(one).driver("vfio-pci")));
    host.hang_knobs.extend(many.iter().map(|one| at(one)));
    host.start(&reset_by_flr());
    let tuned = |one: &&Effect| matches!(one, Effect::Tune { .. });
    assert_eq!(host.hanging.iter().filter(tuned).count(), 8);
    // The kernel does not come back from them: the rest is seen to all the same.
    host.wait(Duration::from_secs(20));
    assert_eq!(host.mapping().0, MappingState::Stuck);
    assert!(host.hanging.len() > 8, "{}", host.hanging.len());
}
