//! libvirt: the hook that it calls, its command, and domains' definitions.
//!
//! What the texts mean is `hooks::libvirt`'s.

mod enable;
mod hook;
mod update;
mod virsh;

use std::{io::Stdout, path::Path};

use super::{
    args::{Libvirt, LibvirtCall},
    exit::Stop,
};

/// Does what libvirt's call is for.
pub(super) fn hook(call: LibvirtCall) -> Result<(), Stop> {
    hook::hook(&call)
}

/// Does what somebody wants done with libvirt.
pub(super) async fn run(
    out: &mut Stdout,
    verb: Libvirt,
    bus: Option<&str>,
    config: Option<&Path>,
    sysfs: &Path,
) -> Result<(), Stop> {
    match verb {
        Libvirt::Update(wanted) => {
            let host = update::Host { bus, config, sysfs };
            update::update(out, &host, &wanted).await
        }
        Libvirt::Enable { root } => enable::enable(out, &root),
    }
}
