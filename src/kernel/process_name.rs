//! How a process is told to a person.

/// A process in words: its name, its number, and the unit of systemd that it
/// belongs to, which is what a person can stop.
pub(super) fn process_name(comm: &str, pid: &str, cgroup: &str) -> String {
    let comm = comm.trim_end();
    match unit(cgroup) {
        Some(unit) => format!("{comm} (pid {pid}, {unit})"),
        None => format!("{comm} (pid {pid})"),
    }
}

/// The innermost unit that a process is in by its control group: `0::/PATH`, or
/// `1:name=systemd:/PATH` where the older kind is in use (cgroups(7)).
fn unit(cgroup: &str) -> Option<&str> {
    cgroup.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let path = match (parts.next()?, parts.next()?) {
            ("0", "") | (_, "name=systemd") => parts.next()?,
            _ => return None,
        };
        let mut units = path.rsplit('/');
        units.find(|part| part.ends_with(".service") || part.ends_with(".scope"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_with_its_unit() {
        for (cgroup, wanted) in [
            (
                "0::/user.slice/user-1000.slice/user@1000.service/app.slice/pipewire.service\n",
                "x (pid 7, pipewire.service)",
            ),
            ("0::/qemu.slice/100.scope\n", "x (pid 7, 100.scope)"),
            // A control group of the service's own.
            (
                "0::/system.slice/libvirtd.service/init\n",
                "x (pid 7, libvirtd.service)",
            ),
            (
                "3:cpu:/a.service\n1:name=systemd:/system.slice/ssh.service\n0::/\n",
                "x (pid 7, ssh.service)",
            ),
            ("0::/\n", "x (pid 7)"),
            ("0::/a:b.scope\n", "x (pid 7, a:b.scope)"),
            ("", "x (pid 7)"),
        ] {
            assert_eq!(process_name("x\n", "7", cgroup), wanted, "{cgroup}");
        }
    }
}
