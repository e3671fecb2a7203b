//! The log: to standard error, as much as `RUST_LOG` says.

use crate::io::sip::LOG_FILTER;
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Starts the log; `level` is what is logged unless `RUST_LOG` says otherwise.
pub fn start(level: &str) {
    let wanted = std::env::var("RUST_LOG").unwrap_or_else(|_| level.into());
    // The SIP stack prints whole messages, with their credentials, where it may.
    let filter = EnvFilter::new(format!("{wanted},{LOG_FILTER}"));
    // Colour for people, plain text for files and pipes.
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colour).with_writer(std::io::stderr).init();
}
