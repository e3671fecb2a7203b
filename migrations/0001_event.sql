-- Everything that happened in every call, in order. Rows are only ever added (DESIGN §5).
CREATE TABLE event (
    tenant     TEXT    NOT NULL,
    call       TEXT    NOT NULL,
    epoch      INTEGER NOT NULL,
    seq        INTEGER NOT NULL,  -- from 1, without gaps within (call, epoch)
    media_time INTEGER NOT NULL,  -- samples at 48 kHz since the call began
    wall_time  INTEGER NOT NULL,  -- milliseconds since 1970 UTC
    type       TEXT    NOT NULL,  -- without "sotto."
    schema     INTEGER NOT NULL,  -- version of the payload's form
    key_id     TEXT,              -- which key the payload is encrypted with; null: none
    leg        TEXT,
    payload    TEXT    NOT NULL,  -- JSON
    PRIMARY KEY (tenant, call, epoch, seq)
) STRICT, WITHOUT ROWID;

-- What tells ended calls from those a dead process left open, without reading every event.
CREATE INDEX event_first ON event (tenant, call, epoch) WHERE seq = 1;
CREATE INDEX event_ended ON event (tenant, call) WHERE type = 'call.ended';
