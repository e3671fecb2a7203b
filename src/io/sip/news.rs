//! What somebody who asked for a transfer is told of it (RFC 3515 §2.4): one NOTIFY after the other within their dialog,
//! each with the status line of an answer, the last with a final one.

use crate::io::sip::fault::Fault;
use crate::io::sip::line::Line;
use rsipstack::sip::{Header, Method, Response, StatusCodeKind};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// News that wait for the answer to an earlier NOTIFY. Of provisional ones the latest are dropped when it is full; the
/// final one waits for room.
const WAITING: usize = 4;
/// How long the subscription may last, seconds: longer than anything that is called rings.
const LIFE: u32 = 600;

/// A status line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fragment {
    status: u16,
    reason: String,
}

impl Fragment {
    /// One of ours.
    pub fn new(status: u16, reason: &str) -> Self {
        Fragment { status, reason: reason.into() }
    }

    /// Of an answer that came.
    pub fn of(response: &Response) -> Self {
        let phrase = response.status_code.to_string();
        let reason = phrase.split_once(' ').map_or("Progress", |(_, reason)| reason);
        Fragment::new(response.status_code.code(), &reason.replace(char::is_control, " "))
    }

    fn is_final(&self) -> bool {
        self.status >= 200
    }

    fn state(&self) -> String {
        if self.is_final() { "terminated;reason=noresource".into() } else { format!("active;expires={LIFE}") }
    }

    fn body(&self) -> Vec<u8> {
        format!("SIP/2.0 {} {}\r\n", self.status, self.reason).into_bytes()
    }
}

impl From<&Fault> for Fragment {
    fn from(fault: &Fault) -> Self {
        Fragment::new(fault.status, &fault.reason)
    }
}

/// The way to one subscriber. News are delivered in order; nobody waits for that.
pub struct News {
    told: mpsc::Sender<Fragment>,
    delivery: JoinHandle<()>,
}

impl News {
    /// Who asked on `line`; `id` names one of several transfers asked for there (RFC 3515 §2.4.6). Who wants none
    /// (RFC 4488) is told nothing.
    pub fn begin(line: Arc<Line>, id: Option<u32>, wanted: bool) -> Self {
        let (told, news) = mpsc::channel(WAITING);
        let delivery = tokio::spawn(async move {
            if wanted {
                deliver(&line, id, news).await;
            }
        });
        News { told, delivery }
    }

    /// For others who have something to tell.
    pub fn teller(&self) -> mpsc::Sender<Fragment> {
        self.told.clone()
    }

    /// Something is new.
    pub async fn tell(&self, fragment: Fragment) {
        // Who listens no more needs no news.
        let _ = self.told.send(fragment).await;
    }

    /// Waits until all is delivered, for so long at most; what is not is delivered later.
    pub async fn delivered(self, patience: Duration) {
        drop(self.told);
        let _ = tokio::time::timeout(patience, self.delivery).await;
    }
}

/// Until the final one was taken, or one was refused: then nobody subscribes any more.
async fn deliver(line: &Line, id: Option<u32>, mut news: mpsc::Receiver<Fragment>) {
    let event = id.map_or_else(|| "refer".to_owned(), |id| format!("refer;id={id}"));
    while let Some(fragment) = news.recv().await {
        let headers = vec![
            Header::Other("Event".into(), event.clone()),
            Header::Other("Subscription-State".into(), fragment.state()),
            Header::ContentType("message/sipfrag;version=2.0".into()),
        ];
        let answer = line.ask(Method::Notify, headers, Some(fragment.body())).await;
        let taken = answer.is_some_and(|answer| answer.status_code.kind() == StatusCodeKind::Successful);
        if !taken || fragment.is_final() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fragment_is_one_status_line() {
        let busy = Fragment::from(&Fault::new(486, "called party busy"));
        assert_eq!(busy.body(), b"SIP/2.0 486 called party busy\r\n");
        assert_eq!(busy.state(), "terminated;reason=noresource");
        assert_eq!(Fragment::new(180, "Ringing").state(), "active;expires=600");
    }
}
