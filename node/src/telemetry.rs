//! What the daemon says about itself: log lines on standard error, and its readiness to systemd.
//!
//! Lines are for people where standard error is a terminal or a file, and carry a priority `<N>` and no time where journald
//! reads them (sd-daemon(3)), which keeps both itself. Sources: systemd's sd_notify(3), sd-daemon(3).

use std::fmt::{self, Write as _};
use std::io::IsTerminal;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use crate::failure::Failure;

/// Sends log lines of `level` and above to standard error.
///
/// # Errors
/// If `level` is no level.
pub fn start(level: &str) -> Result<(), Failure> {
    let level: LevelFilter = level.parse().map_err(|_| {
        Failure::input("log_level", format!("`{level}` is not a level of logging"))
            .remedy("use error, warn, info, debug or trace")
    })?;
    // Libraries are as loud as we are only from warnings up; their chatter is for their own developers.
    let quiet = level.min(LevelFilter::WARN);
    let targets = Targets::new()
        .with_default(if level == LevelFilter::TRACE { LevelFilter::DEBUG } else { quiet })
        // A founder knows nobody yet, which this library finds worth a warning at each start.
        .with_target("libp2p_kad", LevelFilter::ERROR.min(level))
        .with_targets(
            [
                "consort",
                "consort_node",
                "consort_overlay",
                "consort_vswitch",
                "consort_scheduler",
                "consort_machine",
            ]
            .map(|target| (target, level)),
        );
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(targets);
    let started = if std::env::var_os("JOURNAL_STREAM").is_some() {
        registry.with(lines.event_format(JournalLines).with_ansi(false)).try_init()
    } else {
        let colours = std::io::stderr().is_terminal();
        registry.with(lines.compact().with_target(false).with_ansi(colours)).try_init()
    };
    started.map_err(|error| Failure::failed("log", format!("cannot start logging: {error}")))
}

/// `<priority>span: message field=value`.
struct JournalLines;

impl<S, N> FormatEvent<S, N> for JournalLines
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let priority = match *event.metadata().level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            Level::DEBUG | Level::TRACE => 7,
        };
        let mut line = String::new();
        for span in context.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            write!(line, "{}: ", span.name())?;
        }
        context.field_format().format_fields(Writer::new(&mut line), event)?;
        writeln!(writer, "<{priority}>{}", line.replace('\n', " "))
    }
}

/// Tells the service manager, where there is one, that the node is ready.
pub fn notify_ready(status: &str) {
    notify(&format!("READY=1\nSTATUS={status}\n"));
}

/// Tells the service manager, where there is one, that the node is stopping.
pub fn notify_stopping() {
    notify("STOPPING=1\n");
}

fn notify(message: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let address = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&path),
    };
    let sent =
        address.and_then(|address| UnixDatagram::unbound()?.send_to_addr(message.as_bytes(), &address));
    if let Err(error) = sent {
        tracing::warn!(%error, "the service manager could not be told");
    }
}
