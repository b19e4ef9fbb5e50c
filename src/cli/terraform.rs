//! `terraform`: a mapping's functions for Terraform's `external` data source.

use std::{
    io::{self, Read as _, Stdout, Write as _},
    path::Path,
};

use super::{
    client::Client,
    exit::{Exit, Stop},
};
use crate::{
    hooks::terraform::{Device, answer, query},
    kernel::{scan::scan_function, sysfs::HostSysfs},
};

/// Reads all of the query, as the protocol wants it, and answers.
pub(super) async fn run(out: &mut Stdout, bus: Option<&str>, root: &Path) -> Result<(), Stop> {
    let mut text = String::new();
    io::stdin().read_to_string(&mut text)?;
    let mapping = query(&text).map_err(|text| Stop::new(Exit::Usage, text))?;
    let (_, addresses) = Client::resolve(bus, &mapping, None).await?;
    let sysfs = HostSysfs::new(root);
    let devices = addresses.into_iter().map(|address| {
        let function = scan_function(&sysfs, address, None);
        let function =
            function.ok_or_else(|| Stop::failure(format!("{address} is not there any more")))?;
        Ok(Device {
            address,
            id: function.id,
            subsystem: function.subsystem,
            iommu_group: function.iommu_group,
            driver: function.driver.unwrap_or_default(),
        })
    });
    let devices = devices.collect::<Result<Vec<_>, Stop>>()?;
    let system = rustix::system::uname();
    let node = system.nodename().to_string_lossy();
    Ok(writeln!(out, "{}", answer(&node, &devices))?)
}
