-- What tells recordings that were completed from those a dead process left behind, without reading every event.
CREATE INDEX event_recording_started ON event (tenant, call, leg) WHERE type = 'recording.started';
CREATE INDEX event_recording_ended ON event (tenant, call, leg) WHERE type = 'recording.ended';
