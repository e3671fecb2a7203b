//! Events as the world reads them: CloudEvents 1.0, structured mode, JSON.
//!
//! `id` is `call:epoch:seq`, `source` the node, `type` ours with `sotto.` before it, `data` the payload. Extensions:
//! `tenant`, `callid`, `leg` where there is one, `epoch`, `sequence` (ten digits, so that text sorts as numbers do) and
//! `mediatime` (samples at 48 kHz since the call began).

use crate::event::{EventId, Recorded};
use crate::id::{CallId, LegId};
use crate::io::clock;
use crate::io::journal::Published;
use crate::io::sqlite::payload;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

/// The media type of one event.
pub const EVENT: &str = "application/cloudevents+json";

/// The media type of an array of them.
pub const BATCH: &str = "application/cloudevents-batch+json";

/// One event.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CloudEvent {
    specversion: &'static str,
    id: String,
    source: String,
    r#type: String,
    time: String,
    datacontenttype: &'static str,
    tenant: String,
    callid: CallId,
    #[serde(skip_serializing_if = "Option::is_none")]
    leg: Option<LegId>,
    epoch: u32,
    sequence: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mediatime: Option<i64>,
    data: Value,
}

/// What `journal.committed` tells.
#[derive(Serialize)]
struct Watermark {
    epoch: u32,
    seq: u64,
}

impl From<&Recorded> for CloudEvent {
    fn from(recorded: &Recorded) -> Self {
        let Recorded { tenant, id, wall_ms, event } = recorded;
        CloudEvent {
            leg: event.leg,
            mediatime: Some(event.at.0),
            // Payloads are plain data: they always have a JSON form.
            data: payload(&event.what).unwrap_or_default(),
            ..CloudEvent::new(*id, id.to_string(), event.what.name(), &tenant.0, *wall_ms)
        }
    }
}

impl From<&Published> for CloudEvent {
    fn from(published: &Published) -> Self {
        match published {
            Published::Event(recorded) => CloudEvent::from(&**recorded),
            Published::Committed { tenant, call, epoch, seq } => {
                let id = EventId { call: *call, epoch: *epoch, seq: *seq };
                let data = serde_json::to_value(Watermark { epoch: *epoch, seq: *seq }).unwrap_or_default();
                let name = "journal.committed";
                CloudEvent { data, ..CloudEvent::new(id, format!("{id}:committed"), name, &tenant.0, clock::wall_ms()) }
            }
        }
    }
}

impl CloudEvent {
    fn new(place: EventId, id: String, name: &str, tenant: &str, wall_ms: i64) -> Self {
        CloudEvent {
            specversion: "1.0",
            id,
            source: format!("/sotto/{}", place.call.node()),
            r#type: format!("sotto.{name}"),
            time: format!("{:.3}", Timestamp::from_millisecond(wall_ms).unwrap_or_default()),
            datacontenttype: "application/json",
            tenant: tenant.to_owned(),
            callid: place.call,
            leg: None,
            epoch: place.epoch,
            sequence: format!("{:010}", place.seq),
            mediatime: None,
            data: Value::Null,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, What};
    use crate::id::Tenant;
    use crate::time::MediaTime;
    use serde_json::json;

    #[test]
    fn an_event_is_written_as_the_specification_wants_it() {
        let call = CallId::new(1_790_000_000_000, 7, 1, 3);
        let event = Event {
            at: MediaTime::from_millis(1_000),
            leg: Some(LegId(2)),
            what: What::LegLeft { role: crate::event::Role::Agent, reason: "hung up".into() },
        };
        let id = EventId { call, epoch: 0, seq: 12 };
        let recorded = Recorded { tenant: Tenant::default(), id, wall_ms: 1_790_000_000_123, event };
        let expected = json!({
            "specversion": "1.0", "id": format!("{call}:0:12"), "source": "/sotto/7", "type": "sotto.leg.left",
            "time": "2026-09-21T14:13:20.123Z", "datacontenttype": "application/json", "tenant": "default",
            "callid": call.to_string(), "leg": "leg-2", "epoch": 0, "sequence": "0000000012", "mediatime": 48_000,
            "data": {"role": "agent", "reason": "hung up"},
        });
        assert_eq!(serde_json::to_value(CloudEvent::from(&recorded)).unwrap(), expected);
    }

    #[test]
    fn the_watermark_has_an_id_of_its_own() {
        let call = CallId::new(1_790_000_000_000, 7, 1, 3);
        let committed = Published::Committed { tenant: Tenant::default(), call, epoch: 1, seq: 9 };
        let value = serde_json::to_value(CloudEvent::from(&committed)).unwrap();
        assert_eq!(value["type"], "sotto.journal.committed");
        assert_eq!(value["id"], format!("{call}:1:9:committed"));
        assert_eq!(value["data"], json!({"epoch": 1, "seq": 9}));
        assert_eq!((value.get("leg"), value.get("mediatime")), (None, None));
    }
}
