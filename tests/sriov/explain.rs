//! What is explained of an entry of `[sriov]`.

use vfio_bindd::{
    cli::show_explain::plain,
    pci::function::{Function, Role},
    policy::explain::{ExplainError, explain},
};

use crate::{
    config, entry, pf,
    support::{FunctionExt as _, nic, planned},
    vf,
};

/// What is said of `target`, or why nothing is.
fn told(
    host: impl IntoIterator<Item = Function>,
    text: &str,
    target: &str,
) -> Result<String, ExplainError> {
    let (inventory, policy) = (host.into_iter().collect(), config(text));
    let plan = planned(&inventory, &policy);
    let told = explain(&inventory, &policy, &plan, &target.parse().unwrap())?;
    let json = serde_json::to_string(&told).unwrap();
    assert_eq!(serde_json::from_str(&json).ok(), Some(told.clone()));
    Ok(plain(&told))
}

#[test]
fn an_entry_is_told_with_its_pfs_and_what_their_vfs_are_set_to() {
    let text = entry(
        "2",
        "description = \"uplink\"\n[[sriov.nics.vf]]\nindex = 1\nvlan = 100",
    );
    let host = [pf(2), vf(0), vf(1)];
    assert_eq!(
        told(host, &text, "nics").unwrap(),
        "sriov nics: 1 PF\n  uplink\n  pf address=0000:3b:00.0\n  vfs 2\nPFs\n  \
         0000:3b:00.0 [8086:10d3], igb\n    by address=0000:3b:00.0: it has its 2 VFs\n    \
         its VFs: 0000:3b:02.0 0000:3b:02.1\n    VF 1: vlan 100\n"
    );
}

#[test]
fn an_entry_that_no_pf_matches_is_told_with_what_it_nearly_matches() {
    let text = "[sriov.nics]\npf = { id = \"8086:10d3\", numa = 1 }\nvfs = 2\n\
                autoprobe = true\n";
    let here = pf(0).with(|one| one.numa_node = Some(0));
    let told = told([here], text, "nics").unwrap();
    assert!(
        told.starts_with("sriov nics: no function matches its pf\n"),
        "{told}"
    );
    assert!(told.contains("  autoprobe true\n"), "{told}");
    assert!(told.contains("numa=1 fails: it is on node 0"), "{told}");
}

#[test]
fn a_mapping_comes_before_an_entry_of_its_name_and_both_are_listed() {
    let text = entry(
        "2",
        "[mapping.nics]\nmatch = { vf_of = \"3b:00.0\" }\n[sriov.other]\n\
         pf = { id = \"15b3:1017\" }\nvfs = 1\n",
    );
    let host = || [pf(0)];
    let mapping = told(host(), &text, "nics").unwrap();
    assert!(mapping.starts_with("nics: absent"), "{mapping}");
    let error = told(host(), &text, "none").unwrap_err();
    assert_eq!(
        error.to_string(),
        "no mapping is named 'none'; there are: nics, sriov nics, sriov other"
    );
}

#[test]
fn a_plain_function_that_is_meant_is_told_to_have_no_sriov() {
    let plain = nic("0000:3b:00.0").with(|one| one.role = Role::Plain);
    let told = told([plain], &entry("2", ""), "nics").unwrap();
    assert!(told.contains("it has no SR-IOV"), "{told}");
}
