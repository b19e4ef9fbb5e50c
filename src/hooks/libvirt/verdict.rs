//! Verdict: whether a domain may start with the functions that its XML names.
//!
//! Owns what is compared and the sentence about what does not fit. Pure; asks
//! nobody. Functions that are of no mapping are not judged: libvirt does.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    domain::{Device, Domain},
    request::Request,
};
use crate::{
    hooks::mapped::{Mapped, Mappings},
    pci::address::Address,
};

/// Functions that a domain has, by their mappings.
pub type Uses = BTreeMap<String, BTreeSet<Address>>;

/// What the domain uses of the mappings, if it may start.
///
/// # Errors
/// With one sentence on what does not fit, and what to do.
pub fn judge(domain: &Domain, mappings: &Mappings) -> Result<Uses, String> {
    let mut uses = Uses::new();
    for device in &domain.devices {
        let Some(name) = mapping_of(device, domain, mappings) else {
            continue;
        };
        let (label, address) = (label(device), device.address);
        let mapped =
            usable(name, mappings).map_err(|text| format!("{label} is {address}, and {text}"))?;
        if !mapped.has(address) {
            let places: Vec<_> = mapped.addresses.iter().map(Address::to_string).collect();
            let (places, mend) = (places.join(" "), mend(domain));
            return Err(format!(
                "{label} is {address}, and mapping '{name}' is {places} now; {mend}"
            ));
        }
        uses.entry(name.to_owned()).or_default().insert(address);
    }
    for request in &domain.requests {
        let name = &request.mapping;
        let mapped = usable(name, mappings)
            .map_err(|text| format!("the domain asks for mapping '{name}', and {text}"))?;
        let has = uses.get(name);
        complete(request, mapped, has).map_err(|text| format!("{text}; {}", mend(domain)))?;
    }
    Ok(uses)
}

/// What a domain that runs uses of the mappings, whatever may be wrong with it.
#[must_use]
pub fn uses(domain: &Domain, mappings: &Mappings) -> Uses {
    let mut uses = Uses::new();
    for device in &domain.devices {
        let has = |name: &&str| {
            let mapped = mappings.get(*name);
            mapped.is_some_and(|mapped| mapped.addresses.contains(&device.address))
        };
        if let Some(name) = mapping_of(device, domain, mappings).filter(has) {
            uses.entry(name.to_owned())
                .or_default()
                .insert(device.address);
        }
    }
    uses
}

/// Whether the domain has, or asks for, functions of the mapping `name`.
#[must_use]
pub fn concerns(domain: &Domain, name: &str, mapped: &Mapped) -> bool {
    let mut requests = domain.requests.iter();
    let mut devices = domain.devices.iter();
    requests.any(|request| request.mapping == name)
        || devices.any(|device| match &device.ours {
            Some(alias) => alias.mapping() == name,
            None => mapped.has(device.address),
        })
}

/// Whether the domain itself says that it has functions of mappings, whichever
/// these have.
#[must_use]
pub fn says_so(domain: &Domain) -> bool {
    let mut devices = domain.devices.iter();
    !domain.requests.is_empty() || devices.any(|device| device.ours.is_some())
}

/// The mapping that a device is of: what its alias says. Without one, a mapping that
/// has its address, of several rather one that the domain asks for, and that can be
/// used.
fn mapping_of<'a>(device: &'a Device, domain: &Domain, mappings: &'a Mappings) -> Option<&'a str> {
    if let Some(alias) = &device.ours {
        return Some(alias.mapping());
    }
    let having = mappings.iter();
    let having = having.filter(|(_, mapped)| mapped.has(device.address));
    let best = having.min_by_key(|(name, mapped)| {
        let asked = domain.requests.iter().any(|one| one.mapping == **name);
        (!asked, mapped.state != "bound")
    });
    best.map(|(name, _)| name.as_str())
}

fn usable<'a>(name: &str, mappings: &'a Mappings) -> Result<&'a Mapped, String> {
    let none = || format!("there is no mapping '{name}'");
    let mapped = mappings.get(name).ok_or_else(none)?;
    mapped.usable(name).map(|()| mapped)
}

/// Whether the domain has what it asks for. A device has a function at least; how
/// many more is the daemon's to know.
fn complete(
    request: &Request,
    mapped: &Mapped,
    has: Option<&BTreeSet<Address>>,
) -> Result<(), String> {
    let name = &request.mapping;
    let has = |address: &Address| has.is_some_and(|has| has.contains(address));
    let count = mapped.addresses.iter().filter(|one| has(one)).count();
    match request.count {
        Some(wanted) if usize::try_from(wanted).is_ok_and(|wanted| count >= wanted) => Ok(()),
        Some(wanted) => Err(format!(
            "the domain asks for {wanted} of mapping '{name}', and has {count}"
        )),
        None => match mapped.addresses.iter().find(|one| !has(one)) {
            Some(missing) => Err(format!(
                "the domain asks for mapping '{name}', and has no {missing}"
            )),
            None => Ok(()),
        },
    }
}

fn label(device: &Device) -> String {
    match &device.alias {
        Some(alias) => format!("{} '{alias}'", device.kind),
        None => format!("a {}", device.kind),
    }
}

/// The command that sets addresses right.
fn mend(domain: &Domain) -> String {
    format!("run: vfio-bindctl libvirt update {}", word(&domain.name))
}

/// The name as a shell reads it as one word.
fn word(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._+@:-".contains(c);
    if name.chars().all(plain) {
        return name.to_owned();
    }
    format!("'{}'", name.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::{super::domain::read, *};

    fn domain(name: &str, metadata: &str, devices: &[(&str, &str)]) -> Domain {
        let hostdev = |(bus, alias): &(&str, &str)| {
            let alias = match *alias {
                "" => String::new(),
                alias => format!("<alias name='{alias}'/>"),
            };
            format!(
                "<hostdev type='pci'><source><address bus='0x{bus}'/></source>{alias}</hostdev>"
            )
        };
        let devices: String = devices.iter().map(hostdev).collect();
        read(&format!(
            "<domain><name>{name}</name><metadata>\
             <v:devices xmlns:v='https://vfio-bindd.org/libvirt/1'>{metadata}</v:devices>\
             </metadata><devices>{devices}</devices></domain>"
        ))
        .unwrap()
    }

    fn mapped(state: &str, buses: &[&str]) -> Mapped {
        let address = |bus: &&str| format!("0000:{bus}:00.0").parse().unwrap();
        Mapped {
            state: state.to_owned(),
            reason: String::new(),
            addresses: buses.iter().map(address).collect(),
            ..Mapped::default()
        }
    }

    fn mappings() -> Mappings {
        let mut refused = mapped("refused", &["50"]);
        refused.reason = "0000:50:00.0 is in use".to_owned();
        [
            ("gpu", mapped("bound", &["41", "42"])),
            ("nic", mapped("bound", &["50"])),
            ("old", mapped("released", &["60"])),
            ("wish", refused),
        ]
        .map(|(name, mapped)| (name.to_owned(), mapped))
        .into()
    }

    const GPU: &str = "<v:mapping name='gpu'/>";

    #[test]
    fn a_domain_has_what_mappings_have() {
        let of = |metadata: &str, devices: &[(&str, &str)]| {
            let uses = judge(&domain("vm", metadata, devices), &mappings()).unwrap();
            let one = |(name, addresses): (String, BTreeSet<Address>)| {
                let buses: Vec<_> = addresses
                    .iter()
                    .map(|one| format!("{:x}", one.bus()))
                    .collect();
                format!("{name} {}", buses.join(" "))
            };
            uses.into_iter().map(one).collect::<Vec<_>>()
        };
        assert_eq!(of("", &[]), [""; 0]);
        assert_eq!(of("", &[("99", ""), ("01", "ua-mine")]), [""; 0]);
        assert_eq!(of("", &[("42", "")]), ["gpu 42"]);
        let both = [
            ("41", "ua-vfio-bindd-gpu-0"),
            ("42", "ua-vfio-bindd-gpu-1"),
            ("50", "x"),
        ];
        assert_eq!(of(GPU, &both), ["gpu 41 42", "nic 50"]);
        let one = "<v:mapping name='gpu' count='1'/>";
        assert_eq!(of(one, &[("42", "")]), ["gpu 42"]);
    }

    #[test]
    fn what_does_not_fit_is_one_sentence() {
        let alias = "ua-vfio-bindd-gpu-0";
        let (one, two) = (
            "<v:mapping name='gpu' count='1'/>",
            "<v:mapping name='gpu' count='2'/>",
        );
        for (name, metadata, devices, expected) in [
            (
                "web",
                "",
                vec![("43", alias)],
                "hostdev 'ua-vfio-bindd-gpu-0' is 0000:43:00.0, and mapping 'gpu' is 0000:41:00.0 \
                 0000:42:00.0 now; run: vfio-bindctl libvirt update web",
            ),
            // Another mapping's card is there by now, which is no better.
            (
                "bob's vm",
                "",
                vec![("50", alias)],
                "hostdev 'ua-vfio-bindd-gpu-0' is 0000:50:00.0, and mapping 'gpu' is 0000:41:00.0 \
                 0000:42:00.0 now; run: vfio-bindctl libvirt update 'bob'\\''s vm'",
            ),
            (
                "web",
                "",
                vec![("41", "ua-vfio-bindd-gpx-0")],
                "hostdev 'ua-vfio-bindd-gpx-0' is 0000:41:00.0, and there is no mapping 'gpx'",
            ),
            (
                "web",
                "",
                vec![("60", "")],
                "a hostdev is 0000:60:00.0, and mapping 'old' is released",
            ),
            (
                "web",
                "<v:mapping name='wish'/>",
                vec![("50", "")],
                "a hostdev is 0000:50:00.0, and mapping 'wish' is refused: 0000:50:00.0 is in use",
            ),
            (
                "web",
                "<v:mapping name='gpx'/>",
                vec![],
                "the domain asks for mapping 'gpx', and there is no mapping 'gpx'",
            ),
            (
                "web",
                GPU,
                vec![("41", alias)],
                "the domain asks for mapping 'gpu', and has no 0000:42:00.0; run: vfio-bindctl \
                 libvirt update web",
            ),
            (
                "web",
                one,
                vec![("43", "")],
                "the domain asks for 1 of mapping 'gpu', and has 0; run: vfio-bindctl libvirt \
                 update web",
            ),
            (
                "web",
                two,
                vec![("41", alias)],
                "the domain asks for 2 of mapping 'gpu', and has 1; run: vfio-bindctl libvirt \
                 update web",
            ),
        ] {
            let domain = domain(name, metadata, &devices);
            assert_eq!(judge(&domain, &mappings()), Err(expected.to_owned()));
        }
    }

    #[test]
    fn a_running_domain_has_what_it_has() {
        let devices = [
            ("43", "ua-vfio-bindd-gpu-0"),
            ("42", "ua-vfio-bindd-gpu-1"),
            ("60", ""),
        ];
        let uses = uses(&domain("vm", GPU, &devices), &mappings());
        let one = |bus: &str| BTreeSet::from([format!("0000:{bus}:00.0").parse().unwrap()]);
        let expected = [("gpu".to_owned(), one("42")), ("old".to_owned(), one("60"))];
        assert_eq!(uses, expected.into());
    }

    #[test]
    fn a_mapping_concerns_who_has_or_wants_it() {
        let gpu = mapped("pending", &["41"]);
        for (metadata, devices, expected, says) in [
            ("", vec![], false, false),
            ("", vec![("40", "")], false, false),
            ("", vec![("41", "")], true, false),
            ("", vec![("41", "ua-vfio-bindd-nic-0")], false, true),
            ("", vec![("40", "ua-vfio-bindd-gpu-0")], true, true),
            (GPU, vec![], true, true),
        ] {
            let domain = domain("vm", metadata, &devices);
            assert_eq!(concerns(&domain, "gpu", &gpu), expected, "{devices:?}");
            assert_eq!(says_so(&domain), says, "{devices:?}");
        }
    }
}
