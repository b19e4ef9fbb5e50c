//! The interfaces as they describe themselves: the contract with every client.

use std::{fs, path::PathBuf};

use vfio_bindd::bus::api::NAME;

use crate::{
    client::Client,
    private_bus::PrivateBus,
    service::{Service, bound, pf, snapshot},
};

/// One line per element or line of a comment, without the indentation.
fn lines(xml: &str) -> Vec<&str> {
    let lines = xml.lines().map(str::trim);
    lines.filter(|line| !line.is_empty()).collect()
}

/// The lines of `xml` that describe our interface `name`.
fn interface(xml: &str, name: &str) -> String {
    let head = format!("<interface name=\"{NAME}.{name}\">");
    let mut found = String::new();
    for line in xml.lines().skip_while(|line| line.trim() != head) {
        found += line;
        found.push('\n');
        if line.trim() == "</interface>" {
            return found;
        }
    }
    unreachable!("{name} is not served in {xml}");
}

/// Members without a comment right before them.
fn undocumented(interface: &str) -> Vec<&str> {
    let lines = lines(interface);
    let before = std::iter::once("").chain(lines.iter().copied());
    let members = lines.iter().zip(before).filter(|(line, before)| {
        let member = ["<method ", "<signal ", "<property "];
        member.iter().any(|start| line.starts_with(start)) && !before.ends_with("-->")
    });
    members.map(|(line, _)| *line).collect()
}

#[tokio::test(flavor = "current_thread")]
async fn the_interfaces_are_what_was_promised() {
    let bus = PrivateBus::start();
    let address = "0000:01:00.0";
    let mut all = snapshot(1, [("nic", bound(&[address]))]);
    all.pfs = [pf(0)].into();
    let _service = Service::start(&bus.address(), all);
    let client = Client::served(&bus.address()).await;
    let mut found = String::new();
    for (name, path) in [
        ("Manager", ""),
        ("Mapping", "/mapping/nic"),
        ("Function", "/function/pci_0000_01_00_0"),
        ("Sriov", "/sriov/pci_0000_3b_00_0"),
    ] {
        let xml = client.introspect(&format!("/org/vfiobindd1{path}")).await;
        let interface = interface(&xml, name);
        assert_eq!(undocumented(&interface), [""; 0], "members of {name}");
        found += &interface;
    }
    let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/bus/introspection.xml");
    if std::env::var_os("BLESS").is_some() {
        fs::write(&golden, &found).unwrap();
    }
    let wanted = fs::read_to_string(&golden).unwrap();
    assert_eq!(
        lines(&found),
        lines(&wanted),
        "the interface only grows; BLESS=1 takes it over"
    );
}

#[test]
fn a_member_without_a_comment_is_found() {
    let xml = "<interface name=\"org.vfiobindd1.X\">\n <!--\n a\n -->\n <method name=\"A\">\n \
               </method>\n <property name=\"B\"/>\n</interface>";
    let interface = interface(xml, "X");
    assert_eq!(undocumented(&interface), ["<property name=\"B\"/>"]);
}
