//! When udev has been through the devices that were there at boot.
//!
//! Owns how that is seen. udevd keeps `/run/udev/queue` while it has events or
//! works on one, loading drivers included (src/udev/udevd.c, `event_queue_insert`
//! and `on_post`, v252 and v257); the unit starts after all devices were
//! triggered. A driver's own probing, also where it is asynchronous, is over
//! when its module is loaded (kernel/module/main.c, `do_init_module`, v6.12).

use std::{path::Path, time::Duration};

use tokio::{sync::mpsc, time::sleep};

use super::work::finish;
use crate::engine::event::Event;

const QUEUE: &str = "/run/udev/queue";

/// How often it is looked, and how often in a row udev has to be idle: between
/// two events the file is away for a moment.
const BREAK: Duration = Duration::from_millis(100);
const LOOKS: u32 = 3;

/// When it counts as through, whatever is still under way: udev itself gives up
/// on an event then (udev.conf(5), `event_timeout`).
const LIMIT: Duration = Duration::from_secs(180);

/// Tells the loop when udev is through.
pub(super) fn watch(events: mpsc::UnboundedSender<Event>) {
    tokio::spawn(async move {
        let all_along = idle(|| Path::new(QUEUE).exists()).await;
        finish(&events, Event::UdevIdle { all_along });
    });
}

/// Comes back when nothing `is_queued`; says whether nothing ever was.
async fn idle(is_queued: impl Fn() -> bool) -> bool {
    let mut all_along = true;
    let mut looks = 0;
    let mut waited = Duration::ZERO;
    loop {
        if is_queued() {
            all_along = false;
            looks = 0;
        } else {
            looks += 1;
        }
        if looks == LOOKS || waited >= LIMIT {
            if looks < LOOKS {
                tracing::warn!(
                    "udev is at work for {} s and still is: what it has not seen by now is taken \
                     as it is",
                    LIMIT.as_secs()
                );
            }
            return all_along;
        }
        sleep(BREAK).await;
        waited += BREAK;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// What comes of these looks, the last of which goes on for ever.
    async fn looks(queued: &[bool]) -> (bool, usize) {
        let all = RefCell::new(0);
        let all_along = idle(|| {
            let nth = all.replace_with(|nth| *nth + 1);
            *queued.get(nth).or_else(|| queued.last()).unwrap()
        })
        .await;
        (all_along, all.into_inner())
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_idle_when_it_is_so_three_times_in_a_row() {
        assert_eq!(looks(&[false]).await, (true, 3));
        assert_eq!(looks(&[true, true, false]).await, (false, 5));
        assert_eq!(looks(&[false, false, true, false]).await, (false, 6));
        // It never is.
        assert_eq!(looks(&[true]).await, (false, 1801));
    }
}
