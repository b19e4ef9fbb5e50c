//! Where lines go: to the journal with their fields, or to stderr when started
//! by hand.

use std::fmt;

use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
};
use tracing_subscriber::{
    Layer as _,
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    layer::SubscriberExt as _,
    registry::LookupSpan,
};

/// Sends what is traced to the journal if systemd started this process with
/// its output there, otherwise to stderr.
///
/// # Errors
/// If something else in this process traces already.
pub fn start(level: LevelFilter) -> Result<(), tracing::subscriber::SetGlobalDefaultError> {
    // systemd.exec(5): set where stdout or stderr is the journal.
    let journal = std::env::var_os("JOURNAL_STREAM")
        .and_then(|_| tracing_journald::layer().ok())
        .map(|layer| {
            layer
                .with_field_prefix(None)
                .with_syslog_identifier("vfio-bindd".to_owned())
        });
    let stderr = journal.is_none().then(|| {
        tracing_subscriber::fmt::layer()
            .event_format(Plain)
            .with_writer(std::io::stderr)
    });
    let registry = tracing_subscriber::registry()
        .with(journal.with_filter(level))
        .with(stderr.with_filter(level));
    tracing::subscriber::set_global_default(registry)
}

/// A line for a person: the message says it all, the fields are for machines.
struct Plain;

impl<S, N> FormatEvent<S, N> for Plain
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let word = match *event.metadata().level() {
            Level::ERROR => "error: ",
            Level::WARN => "warning: ",
            _ => "",
        };
        let mut message = Message(String::new());
        event.record(&mut message);
        writeln!(writer, "{word}{}", message.0)
    }
}

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}
