//! Session timers (RFC 4028): a sign of life in time, or the call is over.
//!
//! In come the headers of an INVITE, an UPDATE, or the answer to one; out comes who is to give the sign and how often. We
//! offer to do it wherever the peer does not insist, and take a peer's silence for its end.

use crate::config;
use crate::io::sip::controller::Call;
use crate::io::sip::door::ALLOW;
use crate::io::sip::fault::Fault;
use crate::io::sip::line::{Line, Side};
use crate::io::sip::message::parameter;
use rsipstack::sip::{Header, Method, Response, StatusCodeKind};
use std::sync::Arc;

/// RFC 4028 §5: nobody may ask for less.
const LEAST: u32 = 90;

/// What we want of session timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How long we let a session go without a sign, seconds; none: as the peer likes.
    pub expires: Option<u32>,
    /// The shortest we agree to, seconds.
    pub min_se: u32,
}

impl From<&config::Sip> for Policy {
    fn from(sip: &config::Sip) -> Self {
        Policy { expires: sip.session_expires, min_se: sip.min_se }
    }
}

/// What a line has agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// Seconds without a sign after which it is over.
    pub expires: u32,
    /// Whether the sign is ours to give.
    pub ours: bool,
}

/// What a message says of timers.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    expires: Option<u32>,
    /// Whether the sign is for the one who sent the request to give.
    by_sender: Option<bool>,
    min_se: u32,
    supported: bool,
}

impl Said {
    fn of<'a>(headers: impl Iterator<Item = &'a Header>) -> Self {
        let mut said = Said::default();
        for header in headers {
            match header {
                Header::SessionExpires(h) => {
                    // A number too large for us is as good as none.
                    said.expires = number(h.value());
                    said.by_sender = match parameter(h.value(), "refresher") {
                        Some(who) if who.eq_ignore_ascii_case("uac") => Some(true),
                        Some(who) if who.eq_ignore_ascii_case("uas") => Some(false),
                        _ => None,
                    };
                }
                Header::MinSE(h) => said.min_se = number(h.value()).unwrap_or(0),
                Header::Supported(h) => said.supported |= names(h.value(), "timer"),
                Header::Require(h) => said.supported |= names(h.value(), "timer"),
                _ => {}
            }
        }
        said
    }
}

fn number(value: &str) -> Option<u32> {
    value.split(';').next()?.trim().parse().ok()
}

/// Whether a list of option tags has this one.
pub fn names(list: &str, tag: &str) -> bool {
    list.split(',').any(|t| t.trim().eq_ignore_ascii_case(tag))
}

impl Policy {
    /// For a request of the peer: what holds from our 2xx on, or 422 (RFC 4028 §9).
    pub fn answer<'a>(self, headers: impl Iterator<Item = &'a Header>) -> Result<Option<Session>, Fault> {
        let said = Said::of(headers);
        let least = self.min_se.max(LEAST);
        let Some(asked) = said.expires else {
            // Who has never heard of timers may take the sign for something else: it is left in peace.
            let expires = self.expires.filter(|_| said.supported).map(|ours| ours.max(said.min_se));
            return Ok(expires.map(|expires| Session { expires, ours: true }));
        };
        if asked < least && said.supported {
            return Err(Fault::new(422, "Session Interval Too Small").with("Min-SE", least.to_string()));
        }
        // Never shorter than a proxy on the way wants it (§9), nor longer than asked.
        let expires = self.expires.unwrap_or(asked).max(said.min_se).max(least).min(asked.max(least));
        // Who does not know timers cannot be the one (§9, table 2).
        let theirs = said.supported && said.by_sender == Some(true);
        Ok(Some(Session { expires, ours: !theirs }))
    }

    /// What the first INVITE of ours asks for; `least` is what a 422 said.
    pub fn asks(self, least: u32) -> Vec<Header> {
        let mut headers = vec![Header::Supported("timer, 100rel".into())];
        if let Some(expires) = self.expires {
            headers.push(Header::SessionExpires(expires.max(least).to_string().into()));
            headers.push(Header::MinSE(self.min_se.max(least).to_string().into()));
        }
        headers
    }
}

impl Session {
    /// What a 2xx of the peer to a request of ours agrees on; none: there is no timer (§7.2).
    pub fn agreed(response: &Response) -> Option<Session> {
        let said = Said::of(response.headers.iter());
        let expires = said.expires?.max(LEAST);
        Some(Session { expires, ours: said.by_sender != Some(false) })
    }

    /// In our 2xx. Who gives the sign must know how (§9).
    pub fn as_answer(self) -> Vec<Header> {
        let who = if self.ours { "uas" } else { "uac" };
        let mut headers = vec![Header::SessionExpires(format!("{};refresher={who}", self.expires).into())];
        if !self.ours {
            headers.push(Header::Require("timer".into()));
        }
        headers
    }

    /// In a request of ours: who gives the sign does not change by it (§7.4).
    fn as_request(self) -> Vec<Header> {
        let who = if self.ours { "uac" } else { "uas" };
        vec![
            Header::Supported("timer".into()),
            Header::SessionExpires(format!("{};refresher={who}", self.expires).into()),
        ]
    }

    /// What can be kept on a line on which we offer nothing again: their sign, or ours by UPDATE where they take it.
    pub fn without_offers(self, updates: bool) -> Option<Session> {
        Some(self).filter(|session| updates || !session.ours)
    }

    /// Seconds to wait: for half the time before our own sign, and for the peer's until shortly before the end (§10).
    fn wait(self) -> u32 {
        if self.ours { self.expires / 2 } else { self.expires.saturating_sub((self.expires / 3).min(32)) }
    }
}

/// What a 422 wants, in seconds.
pub fn wanted(response: &Response) -> u32 {
    Said::of(response.headers.iter()).min_se
}

/// The headers of a request of ours on a line, by what it has agreed on.
pub fn headers(line: &Line) -> Vec<Header> {
    line.session().map_or_else(|| vec![Header::Supported("timer".into())], Session::as_request)
}

/// Gives signs of life on a party's line, or waits for them, until the line is done with.
pub async fn keep(call: Arc<Call>, side: Side) {
    let Some(line) = call.line(side) else { return };
    let kept = line.kept_by_another();
    kept.run_until_cancelled(signs(&line, Some(&call))).await;
}

/// The same on a line that nothing of ours is offered on again: of a supervisor, of a recording session.
pub async fn keep_alone(line: Arc<Line>) {
    let done = line.done.clone();
    // A line that is refused never stands.
    let keeping = async {
        line.established().await;
        signs(&line, None).await;
    };
    done.run_until_cancelled(keeping).await;
}

async fn signs(line: &Arc<Line>, call: Option<&Arc<Call>>) {
    let (second, mut agreed) = (line.office.timers.second, line.sessions());
    loop {
        let session = *agreed.borrow_and_update();
        let wait = async {
            match session {
                Some(session) => tokio::time::sleep(second.saturating_mul(session.wait())).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            changed = agreed.changed() => if changed.is_err() { return },
            () = wait => {
                let Some(session) = session else { continue };
                if !session.ours || !give_sign(line, session, call).await {
                    return over(line).await;
                }
            }
        }
    }
}

/// A sign of life of ours; where it is not answered, another when most of the time is over.
async fn give_sign(line: &Arc<Line>, session: Session, call: Option<&Arc<Call>>) -> bool {
    if refresh(line, call).await {
        return true;
    }
    tokio::time::sleep(line.office.timers.second.saturating_mul(session.wait() / 2)).await;
    refresh(line, call).await
}

/// By UPDATE where the peer takes it, else by the same offer again (§7.4).
async fn refresh(line: &Arc<Line>, call: Option<&Arc<Call>>) -> bool {
    let response = match call {
        Some(call) if !line.takes_update() => call.reoffer(line).await,
        Some(_) | None => {
            let mut headers = headers(line);
            headers.push(Header::Allow(ALLOW.into()));
            let response = line.ask(Method::Update, headers, None).await;
            response.inspect(|r| line.agree(Session::agreed(r).filter(|_| succeeded(r)).or(line.session())))
        }
    };
    response.is_some_and(|r| succeeded(&r))
}

fn succeeded(response: &Response) -> bool {
    response.status_code.kind() == StatusCodeKind::Successful
}

async fn over(line: &Line) {
    let reason = match line.side {
        Side::Caller => "caller gave no sign of life in time",
        Side::Called => "called party gave no sign of life in time",
    };
    line.gone(reason).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Policy = Policy { expires: Some(1800), min_se: 120 };

    fn asked(lines: &[(&str, &str)]) -> Vec<Header> {
        let header = |(name, value): &(&str, &str)| match *name {
            "SE" => Header::SessionExpires((*value).into()),
            "Min" => Header::MinSE((*value).into()),
            _ => Header::Supported((*value).into()),
        };
        lines.iter().map(header).collect()
    }

    #[test]
    fn what_a_peer_asks_for_is_agreed_on_or_too_little() {
        let supported = ("Supported", "100rel, timer");
        for (lines, agreed) in [
            (vec![], Ok(None)),
            (vec![supported], Ok(Some((1800, true)))),
            (vec![supported, ("SE", "600")], Ok(Some((600, true)))),
            (vec![supported, ("SE", "600;refresher=uac")], Ok(Some((600, false)))),
            (vec![supported, ("SE", "600;refresher=UAS")], Ok(Some((600, true)))),
            (vec![supported, ("SE", "7200")], Ok(Some((1800, true)))),
            (vec![supported, ("SE", "7200"), ("Min", "3600")], Ok(Some((3600, true)))),
            (vec![("SE", "600;refresher=uac")], Ok(Some((600, true)))),
            (vec![supported, ("SE", "100")], Err("120")),
            (vec![("SE", "100")], Ok(Some((120, true)))),
            (vec![supported, ("SE", "0;;refresher=")], Err("120")),
            (vec![supported, ("SE", "99999999999999")], Ok(Some((1800, true)))),
        ] {
            let got = OURS.answer(asked(&lines).iter());
            let got = got.map(|s| s.map(|s| (s.expires, s.ours))).map_err(|f| (f.status, f.headers[0].1.clone()));
            assert_eq!(got, agreed.map_err(|least| (422, least.to_owned())), "{lines:?}");
        }
        let none = Policy { expires: None, ..OURS };
        assert_eq!(none.answer([].iter()), Ok(None));
    }

    #[test]
    fn half_the_time_is_ours_and_the_end_is_theirs() {
        let wait = |expires, ours| Session { expires, ours }.wait();
        assert_eq!([wait(1800, true), wait(1800, false), wait(90, false), wait(90, true)], [900, 1768, 60, 45]);
    }
}
