//! What may be taken early, as a table.

use vfio_bindd::{
    pci::{
        function::{Function, Inspection, Role},
        id::ClassCode,
    },
    policy::{
        early::{Former, Known, early},
        guard::Guard,
    },
};

use crate::support::{FunctionExt as _, at, by_id, inventory, mapping, nic, planned, policy};

const SERIAL: &str = "48-b0-2d-ff-ff-12-34-56";

fn of_class(class: u32) -> Function {
    nic("0000:01:00.0").with(|one| {
        one.class = ClassCode::new(class);
        one.inspection = Some(Inspection {
            serial: Some(SERIAL.to_owned()),
            ..Inspection::default()
        });
    })
}

/// Why the only function of the host is left, `None` if it is taken.
fn left(function: Function, former: &Former) -> Option<String> {
    let mut mapping = mapping(vec![by_id("8086:10d3")]);
    mapping.allow = [Guard::Console].into();
    let inventory = inventory([function]);
    let plan = planned(&inventory, &policy([("m", mapping)]));
    assert_eq!(plan.actions.len(), 1, "{plan:?}");
    let early = early(&plan, &inventory, former);
    assert_eq!(early.take.len() + early.leave.len(), 1);
    early.leave.into_iter().map(|(_, text)| text).next()
}

#[test]
fn what_a_host_may_hang_on_needs_the_verdict_of_a_former_boot() {
    let nothing = Former::Nothing("no former boot left a verdict".to_owned());
    for (class, name) in [
        (0x01_0802, Some("a storage controller")),
        (0x01_0601, Some("a storage controller")),
        (0x02_0000, Some("a network controller")),
        (0x0d_8000, Some("a network controller")),
        (0x0c_0330, Some("a USB controller")),
        (0x07_0002, Some("of a class that the host may need")),
        (0x03_0200, None),
        (0x04_0300, None),
        (0x12_0000, None),
    ] {
        let function = of_class(class);
        let idle = Former::Idle(vec![Known::of(&function)]);
        assert_eq!(left(function.clone(), &idle), None, "{class:06x}");
        let wanted = name.map(|name| format!("is {name}, and no former boot left a verdict"));
        assert_eq!(left(function.clone(), &nothing), wanted, "{class:06x}");
        let told = left(function, &Former::Idle(Vec::new()));
        assert_eq!(told.is_some(), name.is_some(), "{class:06x}");
    }
}

#[test]
fn a_verdict_is_about_the_very_same_function() {
    type Change = fn(&mut Function);
    let changes: [(&str, bool, Change); 10] = [
        ("nothing", true, |_| {}),
        ("the bus number", true, |one| {
            one.address = at("0000:02:00.0");
        }),
        ("the path", false, |one| {
            one.path = "0000:00:02.0/00.0".to_owned();
        }),
        ("no path", false, |one| one.path = String::new()),
        ("the subsystem", false, |one| {
            one.subsystem = "1028:0000".parse().ok();
        }),
        ("no subsystem", false, |one| one.subsystem = None),
        ("the class", false, |one| {
            one.class = ClassCode::new(0x02_8000);
        }),
        ("the serial number", false, |one| {
            let inspection = one.inspection.as_mut().unwrap();
            inspection.serial = Some("00-00-00-00-00-00-00-01".to_owned());
        }),
        ("no serial number", false, |one| {
            one.inspection.as_mut().unwrap().serial = None;
        }),
        ("the place of a VF", false, |one| {
            one.address = at("0000:02:00.0");
            one.role = Role::Vf {
                pf: at("0000:01:00.1"),
                index: Some(0),
            };
        }),
    ];
    for (what, same, change) in changes {
        let former = Former::Idle(vec![Known::of(&of_class(0x02_0000))]);
        let told = left(of_class(0x02_0000).with(change), &former);
        assert_eq!(told.is_none(), same, "{what}: {told:?}");
    }
    // One that has a serial number now, and had none.
    let mut known = Known::of(&of_class(0x02_0000));
    known.serial = None;
    let told = left(of_class(0x02_0000), &Former::Idle(vec![known]));
    assert_eq!(
        told.unwrap(),
        "is a network controller, and the former boot has no verdict on this very function"
    );
    let other = of_class(0x02_0000).with(|one| one.id = "8086:1533".parse().unwrap());
    assert!(!Known::of(&of_class(0x02_0000)).is(&other));
}

#[test]
fn what_a_driver_has_and_the_boot_display_are_left() {
    let former = |function: &Function| Former::Idle(vec![Known::of(function)]);
    let held = of_class(0x02_0000).driver("e1000e");
    let verdict = former(&held);
    assert_eq!(
        left(held, &verdict).unwrap(),
        "has the driver e1000e already"
    );
    // Its guard is lifted in this mapping.
    let display = of_class(0x03_0000).with(|one| one.boot_vga = true);
    let verdict = former(&display);
    assert_eq!(
        left(display, &verdict).unwrap(),
        "is the display that the host booted with"
    );
}

#[test]
fn a_mapping_that_is_not_ready_takes_nothing_and_a_ready_one_what_it_may() {
    let first = of_class(0x02_0000);
    let second = nic("0000:02:00.0");
    let former = Former::Idle(vec![Known::of(&first)]);
    let mut wanted = mapping(vec![by_id("8086:10d3")]);
    let both = inventory([first.clone(), second.clone()]);
    let plan = planned(&both, &policy([("m", wanted.clone())]));
    let found = early(&plan, &both, &former);
    let take: Vec<_> = found.take.iter().map(|action| action.address).collect();
    assert_eq!(take, [at("0000:01:00.0")]);
    assert_eq!(found.leave[0].0, at("0000:02:00.0"));
    wanted.expect.min = 3;
    let plan = planned(&both, &policy([("m", wanted)]));
    assert_eq!(early(&plan, &both, &former).take, Vec::<&_>::new());
}
