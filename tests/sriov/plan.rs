//! What is to be done to PFs.

use std::collections::BTreeSet;

use vfio_bindd::{
    pci::{
        function::{Function, Role},
        inventory::Inventory,
    },
    policy::{
        plan::Verdict,
        sriov::{PfPlan, SriovPlan, Standing},
        vfs::all_wanted,
    },
};

use crate::{
    PF, config, entry, pf,
    support::{FunctionExt as _, at, inventory, nic, planned},
    vf, vf_at,
};

const OTHER: &str = "0000:5e:00.0";

fn of(host: impl IntoIterator<Item = Function>, text: &str) -> SriovPlan {
    let inventory: Inventory = host.into_iter().collect();
    planned(&inventory, &config(text)).sriov
}

/// The plan for the PF alone.
fn planned_for(function: Function, text: &str) -> PfPlan {
    let mut plan = of([function], text);
    assert_eq!(plan.absent, BTreeSet::new());
    plan.pfs.remove(&at(PF)).unwrap()
}

fn refused(plan: &PfPlan) -> &str {
    match &plan.standing {
        Standing::Refused(text) => text,
        other => unreachable!("{other:?}"),
    }
}

#[test]
fn a_pf_gets_what_it_lacks_and_keeps_what_is_right() {
    for (has, vfs, standing, words) in [
        (0, "4", Standing::Make, "gets 4 VFs"),
        (4, "4", Standing::Right, "has its 4 VFs"),
        (2, "4", Standing::Make, "gets 4 VFs in place of 2"),
        (4, "0", Standing::Make, "gets 0 VFs in place of 4"),
        (0, "0", Standing::Right, "has its 0 VFs"),
        (0, "\"max\"", Standing::Make, "gets 8 VFs"),
        (4, "\"50%\"", Standing::Right, "has its 4 VFs"),
        (8, "8", Standing::Right, "has its 8 VFs"),
    ] {
        let plan = planned_for(pf(has), &entry(vfs, ""));
        assert_eq!(plan.standing, standing, "{has} to {vfs}");
        assert_eq!(plan.words(), words);
        assert_eq!(plan.vfs.len(), usize::from(has));
        assert_eq!((plan.total, plan.name.as_str()), (8, "nics"));
    }
}

#[test]
fn a_pf_that_cannot_have_them_is_refused_with_the_reason() {
    let plan = planned_for(pf(0), &entry("9", ""));
    assert_eq!(refused(&plan), "can have at most 8 VFs, and vfs is 9");
    assert_eq!((plan.wanted, plan.settings.len()), (0, 0));
    let off = pf(0).with(|one| {
        one.role = Role::Pf {
            total_vfs: 0,
            vfs: Vec::new(),
        }
    });
    assert_eq!(
        refused(&planned_for(off, &entry("\"max\"", ""))),
        "can have no VFs now: SR-IOV is off in its firmware's settings or its driver's"
    );
    let plain = nic(PF).driver("igb");
    assert_eq!(
        refused(&planned_for(plain, &entry("4", ""))),
        "has no SR-IOV"
    );
    let taken = pf(0).driver("vfio-pci");
    assert_eq!(
        refused(&planned_for(taken, &entry("4", ""))),
        "is bound to vfio-pci, which makes no VFs for the host"
    );
    // Somebody made them before, and that is right.
    let taken = pf(4).driver("vfio-pci");
    let plan = planned_for(taken, &entry("4", ""));
    assert_eq!(plan.standing, Standing::Right);
}

#[test]
fn a_pf_waits_for_its_driver() {
    let without = pf(0).with(|function| function.driver = None);
    let plan = planned_for(without, &entry("4", ""));
    let text = "has no driver yet, which has to make the VFs".to_owned();
    assert_eq!(plan.standing, Standing::Waiting(text));
    // Nothing is to be made.
    let without = pf(0).with(|function| function.driver = None);
    let plan = planned_for(without, &entry("0", ""));
    assert_eq!(plan.standing, Standing::Right);
}

#[test]
fn a_pf_is_of_one_entry_only() {
    let both = entry("4", "") + "[sriov.all]\npf = { id = \"8086:*\" }\nvfs = 4\n";
    let plan = planned_for(pf(4), &both);
    assert_eq!(
        refused(&plan),
        "is meant by [sriov.all] and by [sriov.nics]"
    );
}

#[test]
fn entries_without_a_pf_are_absent_and_vfs_are_no_pfs() {
    let plan = of([nic("0000:01:00.0")], &entry("4", ""));
    assert_eq!(plan.absent, BTreeSet::from(["nics".to_owned()]));
    assert!(plan.pfs.is_empty() && !plan.is_empty());
    let all = "[sriov.all]\npf = { id = \"8086:*\" }\nvfs = 2\n";
    let plan = of([pf(2), vf(0), vf(1)], all);
    assert_eq!(plan.pfs.keys().copied().collect::<Vec<_>>(), [at(PF)]);
    assert!(of([pf(0)], "").is_empty());
}

#[test]
fn a_pf_is_found_by_its_interface() {
    let by = |glob: &str| format!("[sriov.nics]\npf = {{ netdev = \"{glob}\" }}\nvfs = 4\n");
    assert_eq!(
        planned_for(pf(0), &by("enp59s0f*")).standing,
        Standing::Make
    );
    let plan = of([pf(0)], &by("enp60s0f*"));
    assert_eq!(plan.absent.len(), 1);
}

#[test]
fn what_hangs_on_a_serial_number_is_read_first() {
    let text = "[sriov.nics]\npf = { serial = \"00-11-*\" }\nvfs = 4\n";
    let unread = pf(0).with(|function| function.inspection = None);
    let host = inventory([unread, nic("0000:01:00.0")]);
    let plan = planned(&host, &config(text));
    assert!(plan.inspect.contains(&at(PF)), "{:?}", plan.inspect);
    assert!(plan.sriov.pfs.is_empty() && plan.sriov.absent.is_empty());
    let read = pf(0).with(|function| {
        let inspection = function.inspection.get_or_insert_default();
        inspection.serial = Some("00-11-22".to_owned());
    });
    let plan = planned(&inventory([read]), &config(text));
    assert_eq!(plan.sriov.pfs[&at(PF)].standing, Standing::Make);
    assert!(plan.inspect.is_empty());
}

#[test]
fn what_vfs_are_set_to_is_by_their_index() {
    let rules = "[[sriov.nics.vf]]\nindex = \"1-9\"\ntrust = true\n";
    let plan = planned_for(pf(2), &entry("\"50%\"", rules));
    let indices: Vec<_> = plan.settings.keys().copied().collect();
    assert_eq!(indices, [1, 2, 3], "of those that it is to have");
}

/// Both have eight VFs, as many as they can.
fn two_pfs() -> [Function; 2] {
    let other = pf(8).with(|function| {
        function.address = at(OTHER);
        let vfs = (0..8).map(|index| at(&format!("0000:5e:02.{index}")));
        function.role = Role::Pf {
            total_vfs: 8,
            vfs: vfs.collect(),
        };
    });
    [pf(8), other]
}

#[test]
fn no_two_vfs_have_the_same_mac_address() {
    let base = "[[sriov.nics.vf]]\nmac = { base = \"52:54:00:00:00:10\" }\n";
    let every = |vfs: &str| {
        format!(
            "[sriov.nics]\npf = {{ address = [\"3b:00.0\", \"5e:00.0\"] }}\nvfs = {vfs}\n{base}"
        )
    };
    // Of two PFs that one entry means.
    for vfs in ["8", "\"max\""] {
        let plan = of(two_pfs(), &every(vfs));
        assert_eq!(plan.pfs[&at(PF)].standing, Standing::Right);
        assert_eq!(
            refused(&plan.pfs[&at(OTHER)]),
            format!(
                "would give its VF 0 the MAC address 52:54:00:00:00:10, which VF 0 of {PF} has"
            )
        );
    }
    // Of one, where the config could not tell.
    let twice = "[[sriov.nics.vf]]\nindex = \"0-2\"\nmac = { base = \"52:54:00:00:00:10\" }\n\
                 [[sriov.nics.vf]]\nindex = 5\nmac = \"52:54:00:00:00:11\"\n";
    assert_eq!(
        refused(&planned_for(pf(8), &entry("\"max\"", twice))),
        "would give two of its VFs the MAC address 52:54:00:00:00:11"
    );
    // That one does not come into being.
    let plan = planned_for(pf(4), &entry("\"50%\"", twice));
    assert_eq!(plan.standing, Standing::Right);
}

#[test]
fn a_base_that_does_not_reach_every_vf_is_refused() {
    let base = "[[sriov.nics.vf]]\nmac = { base = \"52:54:00:ff:ff:fa\" }\n";
    assert_eq!(
        refused(&planned_for(pf(8), &entry("\"max\"", base))),
        "would have no MAC address left for its VF 6: the last three octets are counted up"
    );
    let plan = planned_for(pf(4), &entry("\"50%\"", base));
    assert_eq!(plan.standing, Standing::Right);
}

#[test]
fn native_drivers_get_vfs_only_if_the_entry_says_so() {
    let vfs = "[mapping.vfs]\nmatch = { vf_of = \"3b:00.0\" }\n";
    for (text, kept) in [
        (entry("4", ""), true),
        (entry("4", "autoprobe = false"), true),
        (entry("4", "autoprobe = true"), false),
        // The entry counts, and not what mappings want.
        (entry("4", "autoprobe = true") + vfs, false),
        (entry("4", "") + vfs, true),
        (vfs.to_owned(), true),
        (String::new(), false),
    ] {
        let found = all_wanted(&inventory([pf(0)]), &config(&text));
        assert_eq!(found.contains(&at(PF)), kept, "{text}");
    }
}

#[test]
fn a_mapping_cannot_have_the_pf_itself() {
    let wants = "[mapping.vms]\nmatch = { address = \"3b:00.0\" }\n";
    let mapping = |vfs: &str| {
        let text = entry(vfs, wants);
        let plan = planned(&inventory([pf(0)]), &config(&text));
        assert_eq!(plan.actions.is_empty(), vfs != "0");
        plan.mappings["vms"].clone()
    };
    let refused = mapping("4");
    assert_eq!(refused.verdict, Verdict::Refused);
    let why = "is the PF of [sriov.nics], and would make no VFs under a vfio driver";
    assert!(refused.reason.contains(why), "{}", refused.reason);
    // It is to have none.
    assert_eq!(mapping("0").verdict, Verdict::Ready);
    // Its VFs are another matter.
    let text = entry("1", "[mapping.vms]\nmatch = { vf_of = \"3b:00.0\" }\n");
    let plan = planned(&inventory([pf(1), vf(0)]), &config(&text));
    let bound: Vec<_> = plan.actions.iter().map(|action| action.address).collect();
    assert_eq!(bound, [at(&vf_at(0))]);
}
