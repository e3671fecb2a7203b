//! Tells systemd, where it started us and wants to know (sd_notify(3), `Type=notify`), how the server is: a text in one
//! datagram to the socket that `NOTIFY_SOCKET` names. Without one it does nothing.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Calls are taken.
pub fn ready() {
    tell("READY=1\nSTATUS=calls are taken");
}

/// No further calls are taken; it may take this long until the process ends.
pub fn stopping(patience: Duration) {
    // Asked for because systemd kills after TimeoutStopSec, 90 s unless it is set.
    let micros = patience.as_micros();
    tell(&format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={micros}\nSTATUS=calls that run may end; no others are taken"));
}

/// Nobody who does not listen is waited for, and nothing depends on it.
fn tell(text: &str) {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let address = match name.as_bytes() {
        [b'@', abstract_name @ ..] => SocketAddr::from_abstract_name(abstract_name),
        _ => SocketAddr::from_pathname(&name),
    };
    let told = address.and_then(|to| UnixDatagram::unbound()?.send_to_addr(text.as_bytes(), &to));
    if let Err(error) = told {
        tracing::warn!(%error, "systemd could not be told");
    }
}
