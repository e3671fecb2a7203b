//! Who may call what: an INVITE becomes a caller, a route and an offer, or a refusal that says why.

use crate::call::sdp::{Description, Terms};
use crate::config::{Route, Step};
use crate::event::{Address, Mode};
use crate::io::sip::digest::Asked;
use crate::io::sip::door::Origin;
use crate::io::sip::fault::Fault;
use crate::io::sip::fork::{self, One, Opening};
use crate::io::sip::message::split_list;
use crate::io::sip::named::{self, Named};
use crate::io::sip::registry::user;
use crate::io::sip::switchboard::Switchboard;
use crate::io::sip::trust::Look;
use regex::Regex;
use rsipstack::sip::headers::ToTypedHeader;
use rsipstack::sip::prelude::HeadersExt;
use rsipstack::sip::{Header, Request, Uri};
use std::net::SocketAddr;
use std::sync::LazyLock;

/// An INVITE that was let in.
#[derive(Debug)]
pub struct Admitted {
    /// What to do with it.
    pub route: Route,
    /// The groups of the route's `called`, `$1` first.
    pub groups: Vec<String>,
    /// Who calls.
    pub caller: Address,
    /// Their name, where they give one.
    pub display_name: Option<String>,
    /// Who the trunk says they are (RFC 3325), or who they say they are: `user@host`.
    pub identity: String,
    /// The trunk they came by.
    pub trunk: String,
    /// The dialog they name instead of a number.
    pub named: Option<Named>,
    /// What they dialled.
    pub called: Address,
    /// Where the INVITE came from.
    pub source: SocketAddr,
    /// What their descriptions must keep to.
    pub terms: Terms,
    /// What media they offer; none: they want our offer (RFC 3261 §13.2.1).
    pub offer: Option<Description>,
    /// How many more hops the call may take (RFC 3261 §8.1.1.6).
    pub max_forwards: u8,
    /// What is to be recorded, where this is a recording session (SIPREC).
    pub recording: Option<Opening>,
}

/// What a supervisor wants to hear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whom {
    /// The agent's user part, or the call's code.
    Dialled(String),
    /// What their INVITE names.
    Named(Named),
}

/// What a supervisor wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Supervision {
    /// Whom they want to hear.
    pub whom: Whom,
    /// How.
    pub mode: Mode,
}

impl Admitted {
    /// Whether this is a supervisor, and what they want.
    pub fn supervision(&self) -> Option<Supervision> {
        let wanted = match self.route.steps.first() {
            Some(Step::Supervise { who, mode }) => {
                Some(Supervision { whom: Whom::Dialled(expand(who, &self.groups, str::to_owned)), mode: *mode })
            }
            _ => None,
        };
        match &self.named {
            Some(Named::Party(_)) => None,
            Some(named) => {
                let mode = wanted.map_or(Mode::Spy, |wanted| wanted.mode);
                Some(Supervision { whom: Whom::Named(named.clone()), mode })
            }
            None => wanted,
        }
    }
}

/// The codes that work whatever the dialplan says: `*80` spy, `*81` whisper, `*82` barge, each before the agent's name
/// or the call's code (DESIGN §6).
static CODES: LazyLock<[Route; 3]> = LazyLock::new(|| {
    [("80", Mode::Spy), ("81", Mode::Whisper), ("82", Mode::Barge)].map(|(code, mode)| Route {
        at: format!("*{code}"),
        called: Some(Regex::new(&format!(r"^\*{code}(.*)$")).expect("the pattern is ours")),
        caller: None,
        trunk: None,
        caller_is_agent: false,
        recorded: false,
        follow: None,
        steps: vec![Step::Supervise { who: "$1".into(), mode }],
    })
});

/// What stands in the place of a route for a recording session, and for who takes a party's place: nothing is decided about
/// them but whether they may.
static NONE: LazyLock<Route> = LazyLock::new(|| Route {
    at: "no route".into(),
    called: None,
    caller: None,
    trunk: None,
    caller_is_agent: false,
    recorded: false,
    follow: None,
    steps: Vec::new(),
});

/// Decides about an INVITE from `origin`.
pub fn admit(board: &Switchboard, request: &Request, origin: &Origin) -> Result<Admitted, Fault> {
    let uri = request.uri.to_string();
    let asked = Asked { method: "INVITE", uri: &uri };
    let shown: Vec<&str> = request.headers.iter().filter_map(authorization).collect();
    let trunk = board.trust.recognise(origin, asked, &shown, Look::Again)?;
    let source = origin.address;
    let from = request.from_header().and_then(|f| f.clone().typed()).map_err(|_| Fault::bad("From cannot be read"))?;
    let called = request.uri.user().unwrap_or_default();
    let caller = from.uri.user().unwrap_or_default();
    let may_call = trunk.may_call.iter().any(|pattern| is_whole(pattern, called));
    let terms = Terms { srtp: trunk.srtp, ipv6: source.is_ipv6() };
    let mut recording = match fork::is_wanted(request) {
        true if may_call => Some(fork::opening(trunk, request, terms)?),
        true | false => None,
    };
    let identity = identity(request).unwrap_or_else(|| format!("{caller}@{}", from.uri.host()));
    let named = named::named(board, request, (&identity, trunk))?;
    let codes = || find(&CODES[..], called, caller, &trunk.name);
    let (route, groups) = match codes() {
        _ if matches!(named, Some(Named::Party(_))) => (&*NONE, Vec::new()),
        Some(code) => code,
        // Who names a dialog has dialled whatever their telephone took for its address.
        None if named.is_some() => (&CODES[0], vec![String::new()]),
        None if !may_call => return Err(Fault::new(403, "this trunk may not call this number")),
        None if recording.is_some() => (&*NONE, Vec::new()),
        None => find(&board.config.routes, called, caller, &trunk.name)
            .ok_or_else(|| Fault::new(404, "no route for this number"))?,
    };
    if let Some(Step::Fork { role, of }) = route.steps.first() {
        let of = expand(of, &groups, str::to_owned);
        let one = One { role: *role, address: user(&identity).into(), of };
        recording = Some(Opening { one: Some(one), ..fork::opening(trunk, request, terms)? });
    }
    let supervises = route.steps.iter().any(|s| matches!(s, Step::Supervise { .. }));
    if supervises && !trunk.may_supervise {
        return Err(Fault::new(403, "this trunk may not listen in on calls: its may_supervise is not true"));
    }
    let max_forwards = request.max_forwards_header().ok().and_then(|m| m.value().trim().parse().ok()).unwrap_or(70u8);
    if max_forwards == 0 && route.steps.iter().any(|s| matches!(s, Step::Connect { .. })) {
        return Err(Fault::new(483, "the call went through too many hops"));
    }
    Ok(Admitted {
        route: route.clone(),
        groups,
        caller: caller.into(),
        identity,
        trunk: trunk.name.clone(),
        named,
        display_name: from.display_name.clone(),
        called: called.into(),
        source,
        terms,
        offer: if recording.is_some() { None } else { offer(request, terms)? },
        max_forwards,
        recording,
    })
}

/// Who a trunk says that its caller is (RFC 3325 §9.1), as `user@host`: trunks are trusted with that.
pub(super) fn identity(request: &Request) -> Option<String> {
    let asserted = request.p_asserted_identity_header()?;
    let first = *split_list(asserted.value()).first()?;
    let uri = first.split_once('<').map_or(first, |(_, rest)| rest.split_once('>').map_or(rest, |(uri, _)| uri));
    let uri = Uri::try_from(uri.trim()).ok()?;
    Some(format!("{}@{}", uri.user()?, uri.host()))
}

pub(super) fn authorization(header: &Header) -> Option<&str> {
    match header {
        Header::Authorization(value) => Some(value.value()),
        _ => None,
    }
}

/// The session description of a request, which must keep to `terms`; none if it has no body.
pub fn offer(request: &Request, terms: Terms) -> Result<Option<Description>, Fault> {
    let Some(kind) = content_type(request)? else { return Ok(None) };
    if kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/sdp") {
        return Ok(Some(Description::read(&request.body, terms)?));
    }
    Err(Fault::new(415, "only application/sdp is understood").with("Accept", "application/sdp"))
}

/// The Content-Type of a request; none if it has no body.
pub fn content_type(request: &Request) -> Result<Option<String>, Fault> {
    if request.body.is_empty() {
        return Ok(None);
    }
    let coded = request
        .headers
        .iter()
        .any(|h| matches!(h, Header::ContentEncoding(e) if !e.value().trim().eq_ignore_ascii_case("identity")));
    if coded {
        return Err(Fault::new(415, "bodies must not be compressed").with("Accept-Encoding", "identity"));
    }
    let kind = request.headers.iter().find_map(|h| match h {
        Header::ContentType(kind) => Some(kind.value().to_owned()),
        _ => None,
    });
    kind.map(Some).ok_or_else(|| Fault::bad("there is a body but no Content-Type"))
}

/// The first route that matches, with the groups of its `called`.
pub fn find<'a>(routes: &'a [Route], called: &str, caller: &str, trunk: &str) -> Option<(&'a Route, Vec<String>)> {
    routes.iter().find_map(|route| {
        let by_trunk = route.trunk.as_deref().is_none_or(|t| t == trunk);
        let by_caller = route.caller.as_ref().is_none_or(|p| p.is_match(caller));
        let groups = match &route.called {
            None => Vec::new(),
            Some(pattern) => groups(pattern, called)?,
        };
        (by_trunk && by_caller && !route.recorded).then_some((route, groups))
    })
}

/// The first route for recordings that matches one of the numbers which may be what was called.
pub fn recorded<'a>(routes: &'a [Route], called: &[String], caller: &str, trunk: &str) -> Option<&'a Route> {
    routes.iter().filter(|route| route.recorded).find(|route| {
        route.trunk.as_deref().is_none_or(|t| t == trunk)
            && route.caller.as_ref().is_none_or(|p| p.is_match(caller))
            && route.called.as_ref().is_none_or(|p| called.iter().any(|number| p.is_match(number)))
    })
}

fn groups(pattern: &Regex, called: &str) -> Option<Vec<String>> {
    let found = pattern.captures(called)?;
    Some(found.iter().skip(1).map(|g| g.map_or_else(String::new, |m| m.as_str().to_owned())).collect())
}

/// Whether a pattern is of all of a text.
pub fn is_whole(pattern: &Regex, text: &str) -> bool {
    pattern.find(text).is_some_and(|found| found.range() == (0..text.len()))
}

/// `$1` … `$9` in `text` become the groups, each passed through `write`; a group that is not there becomes nothing.
pub fn expand(text: &str, groups: &[String], write: impl Fn(&str) -> String) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let digit = chars.peek().and_then(|d| d.to_digit(10)).filter(|d| c == '$' && *d > 0);
        match digit {
            None => out.push(c),
            Some(number) => {
                chars.next();
                let group = (number as usize).checked_sub(1).and_then(|i| groups.get(i));
                out.push_str(&group.map_or_else(String::new, |g| write(g)));
            }
        }
    }
    out
}

/// A group as part of a SIP URI: what a caller dialled must not name another host (RFC 3261 §25.1 `user`).
pub fn in_uri(group: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.!~*'()+".contains(&b);
    group.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(called: Option<&str>, caller: Option<&str>, trunk: Option<&str>) -> Route {
        let regex = |p: &str| Regex::new(p).unwrap();
        Route {
            at: "test:1".into(),
            called: called.map(regex),
            caller: caller.map(regex),
            trunk: trunk.map(Into::into),
            caller_is_agent: false,
            recorded: false,
            follow: None,
            steps: vec![Step::Answer],
        }
    }

    #[test]
    fn the_first_route_that_matches_wins() {
        let routes = [
            route(Some("^1$"), None, Some("other")),
            route(Some(r"^call-(\d)(\d)?$"), Some("^5"), None),
            route(Some("^call-"), None, None),
        ];
        let (found, groups) = find(&routes, "call-7", "55", "lab").unwrap();
        assert!(std::ptr::eq(found, &routes[1]));
        assert_eq!(groups, ["7", ""]);
        assert!(std::ptr::eq(find(&routes, "call-7", "66", "lab").unwrap().0, &routes[2]));
        assert!(find(&routes, "1", "5", "lab").is_none());
    }

    #[test]
    fn the_codes_are_followed_by_a_name() {
        for (called, mode, who) in [
            ("*80anna", Mode::Spy, "anna"),
            ("*811001", Mode::Whisper, "1001"),
            ("*82call-7", Mode::Barge, "call-7"),
            ("*80", Mode::Spy, ""),
        ] {
            let (route, groups) = find(&CODES[..], called, "55", "lab").unwrap();
            assert_eq!(route.steps, [Step::Supervise { who: "$1".into(), mode }], "{called}");
            assert_eq!(groups, [who]);
        }
        assert!(
            ["80anna", "*83anna", "**80anna", "x*80anna"].iter().all(|c| find(&CODES[..], c, "55", "lab").is_none())
        );
    }

    #[test]
    fn a_dialled_number_cannot_smuggle_a_host() {
        let groups = ["7@evil.example;x".to_owned()];
        assert_eq!(expand("sip:call-$1@127.0.0.1", &groups, in_uri), "sip:call-7%40evil.example%3Bx@127.0.0.1");
        assert_eq!(expand("$1$2 costs $0, $", &["a".into()], str::to_owned), "a costs $0, $");
    }
}
