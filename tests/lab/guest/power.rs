//! Power: how a guest comes up, starts again and goes down.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{COMMAND, Guest};
use crate::Result;
use crate::machine::{GUEST_INITRD, Machine};
use crate::qmp::Qmp;
use crate::shell::Shell;
use crate::topology::Topology;

/// A boot takes about half a minute; a busy machine may need several times that.
const BOOT: Duration = Duration::from_secs(240);

impl Guest {
    /// Starts the host and waits until its boot is done.
    pub(crate) fn boot(name: &str, topology: &Topology, package: Option<&Path>) -> Result<Self> {
        let mut machine = Machine::start(name, topology)?;
        let (shell, qmp) = connect(&mut machine)?;
        let mut guest = Self {
            shell,
            qmp,
            plugged: Vec::new(),
            figures: Vec::new(),
            package: package.map(Path::to_owned),
            installed: false,
            images_set: false,
            panics: 0,
            machine,
        };
        guest.settle()?;
        Ok(guest)
    }

    /// Restarts the guest from within and waits for the new boot's end.
    pub(crate) fn reboot(&mut self) -> Result<()> {
        let before = self.ok("cat /proc/sys/kernel/random/boot_id")?;
        self.ok("sync; systemctl reboot --no-block")?;
        let end = Instant::now() + BOOT;
        loop {
            let machine = &mut self.machine;
            self.shell.wait_ready(BOOT, || machine.check())?;
            // The old system answers for a while; a shell that dies in between is no news.
            match self.shell.run(
                "cat /proc/sys/kernel/random/boot_id",
                Duration::from_secs(5),
                || machine.check(),
            ) {
                Ok(output) if output.status == 0 && output.stdout != before => break,
                _ if Instant::now() >= end => return Err("the guest did not restart".to_owned()),
                _ => sleep(Duration::from_secs(1)),
            }
        }
        self.settle()
    }

    /// Cuts the power, where it is on, and boots as this host, which has the same
    /// disks: the empty ones with their content, the image's own as it was built,
    /// unless the topology keeps it.
    pub(crate) fn boot_as(&mut self, topology: &Topology) -> Result<()> {
        self.machine.start_again(topology)?;
        (self.shell, self.qmp) = connect(&mut self.machine)?;
        self.plugged.clear();
        self.settle()
    }

    /// Turns the power off with the file systems clean, and no service stopped
    /// before it is killed, which takes less time.
    pub(crate) fn power_off(&mut self) -> Result<()> {
        // The answer may be lost with the power.
        drop(self.run("systemctl poweroff --force"));
        self.machine.wait_off(COMMAND)
    }

    /// Turns the power off as an administrator does, all services stopped first.
    pub(crate) fn shut_down(&mut self, limit: Duration) -> Result<()> {
        self.ok("systemctl poweroff --no-block")?;
        self.machine.wait_off(limit)
    }

    /// Takes an initrd that the guest made, for boots of topologies that want it.
    pub(crate) fn take_initrd(&mut self, file: &str) -> Result<()> {
        self.ok(&format!("cp {file} /mnt/share/{GUEST_INITRD}"))
            .map(drop)
    }

    /// Waits for the boot's end and mounts the shared folder.
    fn settle(&mut self) -> Result<()> {
        let machine = &mut self.machine;
        self.shell.wait_ready(BOOT, || machine.check())?;
        let end = Instant::now() + BOOT;
        loop {
            let state = self.run("systemctl is-system-running")?.stdout;
            if state == "running" || state == "degraded" {
                break;
            }
            if Instant::now() >= end {
                let jobs = self.run("systemctl list-jobs")?.stdout;
                return Err(format!("the boot does not end (state {state}):\n{jobs}"));
            }
            sleep(Duration::from_secs(1));
        }
        self.ok("modprobe 9pnet_virtio && mount -t 9p -o trans=virtio,version=9p2000.L share /mnt/share")
            .map(drop)
    }
}

/// Waits for QEMU's sockets.
fn connect(machine: &mut Machine) -> Result<(Shell, Qmp)> {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        machine.check()?;
        let both = Shell::connect(&machine.file("shell.sock"))
            .and_then(|shell| Ok((shell, Qmp::connect(&machine.file("qmp.sock"))?)));
        match both {
            Ok(both) => return Ok(both),
            Err(error) if Instant::now() >= end => return Err(error),
            Err(_) => sleep(Duration::from_millis(100)),
        }
    }
}
