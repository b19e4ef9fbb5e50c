//! What modprobe.d(5) and the kernel command line say of modules.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Survey, boot,
    modules::{self, kernel_name},
};
use crate::{
    pci::address::Address,
    policy::{
        doctor::facts::{Directive, Order},
        glob::Glob,
    },
};

/// The orders about vfio and about drivers of this host's functions.
pub(super) fn directives(survey: Survey<'_>) -> Result<Vec<Directive>, String> {
    let folders = [
        "/etc/modprobe.d",
        "/run/modprobe.d",
        "/usr/local/lib/modprobe.d",
        "/usr/lib/modprobe.d",
        "/lib/modprobe.d",
    ];
    let mut directives = Vec::new();
    for file in survey.drop_ins(&folders, ".conf")? {
        for line in survey.lines(&file)? {
            directives.extend(of_line(&line.text).map(|(module, order)| Directive {
                place: line.place,
                parameter: false,
                module,
                order,
                serves: Vec::new(),
            }));
        }
    }
    for parameter in boot::parameters(survey)? {
        directives.extend(of_parameter(&parameter));
    }
    let served = served(survey, &directives)?;
    for directive in &mut directives {
        directive.serves = served.get(&directive.module).cloned().unwrap_or_default();
    }
    directives.retain(|one| is_of_vfio(one) || !one.serves.is_empty());
    Ok(directives)
}

fn is_of_vfio(directive: &Directive) -> bool {
    directive.module.starts_with("vfio") || directive.module == "pci_stub"
}

/// What a line of modprobe.d says, if it can matter.
fn of_line(line: &str) -> Option<(String, Order)> {
    let mut words = line.split_whitespace();
    let (verb, module) = (words.next()?, kernel_name(words.next()?));
    let order = match verb {
        "blacklist" => Order::Blacklist,
        "install" => Order::Install(words.collect::<Vec<_>>().join(" ")),
        "options" => Order::Ids(words.find_map(|word| word.strip_prefix("ids="))?.to_owned()),
        "softdep" => {
            let before = words.skip_while(|word| *word != "pre:").skip(1);
            let before = before.take_while(|word| *word != "post:");
            let before: Vec<_> = before.map(kernel_name).collect();
            if before.is_empty() {
                return None;
            }
            Order::After(before)
        }
        _ => return None,
    };
    let takes_ids = matches!(module.as_str(), "vfio_pci" | "pci_stub");
    (takes_ids || !matches!(order, Order::Ids(_))).then_some((module, order))
}

/// What a parameter of the kernel says of modules.
fn of_parameter(parameter: &str) -> Vec<Directive> {
    let Some((key, value)) = parameter.split_once('=') else {
        return Vec::new();
    };
    let directive = |module: &str, order| Directive {
        place: parameter.to_owned(),
        parameter: true,
        module: kernel_name(module),
        order,
        serves: Vec::new(),
    };
    let each = |order: &Order| {
        let modules = value.split(',').filter(|module| !module.is_empty());
        modules
            .map(|module| directive(module, order.clone()))
            .collect()
    };
    match kernel_name(key).as_str() {
        "module_blacklist" => each(&Order::Forbid),
        "modprobe.blacklist" => each(&Order::Blacklist),
        "vfio_pci.ids" => vec![directive("vfio_pci", Order::Ids(value.to_owned()))],
        "pci_stub.ids" => vec![directive("pci_stub", Order::Ids(value.to_owned()))],
        _ => Vec::new(),
    }
}

/// The functions of this host that each of the modules has a driver for.
fn served(
    survey: Survey<'_>,
    directives: &[Directive],
) -> Result<BTreeMap<String, Vec<Address>>, String> {
    let named: BTreeSet<&str> = directives
        .iter()
        .filter(|one| !is_of_vfio(one))
        .map(|one| one.module.as_str())
        .collect();
    let mut served: BTreeMap<String, BTreeSet<Address>> = BTreeMap::new();
    if named.is_empty() {
        return Ok(BTreeMap::new());
    }
    let aliases = modules::list(survey, "modules.alias")?.unwrap_or_default();
    for line in aliases.lines() {
        // alias pci:v00008086d000010D3sv*sd*bc*sc*i* e1000e
        let mut words = line.split_whitespace().skip(1);
        let (Some(pattern), Some(module)) = (words.next(), words.next()) else {
            continue;
        };
        let module = kernel_name(module);
        if !pattern.starts_with("pci:") || !named.contains(module.as_str()) {
            continue;
        }
        let Ok(glob) = pattern.parse::<Glob>() else {
            continue;
        };
        let functions = survey.inventory.iter();
        let functions = functions.filter(|function| glob.matches(&function.modalias));
        let addresses = functions.map(|function| function.address);
        served.entry(module).or_default().extend(addresses);
    }
    let served = served.into_iter();
    Ok(served
        .map(|(module, addresses)| (module, addresses.into_iter().collect()))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_what_modprobe_takes_them_for() {
        let after = |modules: &[&str]| {
            let modules = modules.iter().map(|one| (*one).to_owned());
            Order::After(modules.collect())
        };
        for (line, wanted) in [
            ("blacklist nouveau", Some(("nouveau", Order::Blacklist))),
            (
                "install vfio-pci /bin/false  now",
                Some(("vfio_pci", Order::Install("/bin/false now".to_owned()))),
            ),
            (
                "options vfio-pci disable_vga=1 ids=10de:2684,10de:22ba",
                Some(("vfio_pci", Order::Ids("10de:2684,10de:22ba".to_owned()))),
            ),
            ("options vfio-pci disable_vga=1", None),
            ("options other ids=10de:2684", None),
            (
                "softdep nvidia pre: vfio-pci vfio post: x",
                Some(("nvidia", after(&["vfio_pci", "vfio"]))),
            ),
            ("softdep nvidia post: x", None),
            ("remove vfio-pci /bin/true", None),
            ("blacklist", None),
            ("", None),
        ] {
            let wanted = wanted.map(|(module, order)| (module.to_owned(), order));
            assert_eq!(of_line(line), wanted, "{line}");
        }
    }

    #[test]
    fn parameters_name_several_modules() {
        let said = |parameter: &str| -> Vec<(String, Order)> {
            let all = of_parameter(parameter).into_iter();
            all.map(|one| (one.module, one.order)).collect()
        };
        assert_eq!(
            said("module_blacklist=nouveau,vfio-pci,"),
            [
                ("nouveau".to_owned(), Order::Forbid),
                ("vfio_pci".to_owned(), Order::Forbid)
            ]
        );
        assert_eq!(
            said("modprobe.blacklist=nouveau"),
            [("nouveau".to_owned(), Order::Blacklist)]
        );
        assert_eq!(
            said("vfio-pci.ids=10de:2684"),
            [("vfio_pci".to_owned(), Order::Ids("10de:2684".to_owned()))]
        );
        for other in ["vfio-pci.disable_vga=1", "iommu=pt", "quiet"] {
            assert_eq!(said(other), []);
        }
    }
}
