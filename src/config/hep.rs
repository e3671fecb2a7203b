//! `[sip] hep`: where copies of the signalling go.

use super::Secret;
use super::check::secret;
use super::fault::Faults;
use super::raw::Section;

/// A capture server, as Homer is one, and who we are to it.
#[derive(Clone, Debug)]
pub struct Hep {
    /// `HOST:PORT`, reached by UDP.
    pub server: String,
    /// The number by which it knows us.
    pub id: u32,
    /// What it asks for, if it does.
    pub password: Option<Secret>,
}

pub(super) fn hep(section: &mut Section<'_>, faults: &Faults) -> Option<Hep> {
    let server = section.text("hep");
    let at = section.place("hep");
    let id = section.whole("hep_id", 1..=i64::from(u32::MAX)).map_or(1, |w| w.value as u32);
    let password = secret(section, "hep_password", "hep_password_file", faults);
    let Some(server) = server else {
        if let Some((at, called, _)) = password {
            faults.add(&at, format!("{called} is given and sip.hep is not"), "write hep = \"udp://HOST:PORT\"");
        }
        return None;
    };
    let place = server.value.strip_prefix("udp://").filter(|place| {
        place.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|p| p > 0))
    });
    if place.is_none() {
        faults.add(&at, format!("sip.hep is {:?}", server.value), "write udp://HOST:PORT, as \"udp://192.0.2.5:9060\"");
    }
    let password = password.map(|(_, _, password)| password);
    Some(Hep { server: place?.to_owned(), id, password })
}
