-- Events that are not (yet) rows, each with its reason. The event is kept as its redacted facts: no prompt, no answer, no
-- key in clear. The id is the event's key, so however often it is sent again it is kept once, and when it is stored by a
-- replay or a late delivery the entry is resolved in the same transaction.
CREATE TABLE metering.quarantine (
    id uuid PRIMARY KEY,
    reason text NOT NULL,
    detail text NOT NULL,
    -- NULL for a part of a body that could not be read; then the excerpt has its first 64 KiB, scrubbed.
    event jsonb,
    excerpt text,
    key_hashes bytea[] NOT NULL,
    user_id bigint,
    occurred_at timestamptz,
    received_at timestamptz NOT NULL,
    last_received_at timestamptz NOT NULL,
    deliveries bigint NOT NULL,
    -- Whether it becomes a row by itself when its trouble is gone. Never where the sender saw a 4xx for a nameless event:
    -- it will send that again.
    is_replayable boolean NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL,
    resolved_at timestamptz,
    -- 'stored', 'duplicate' or 'discarded'.
    resolution text,
    api_log_id bigint,
    CHECK ((resolved_at IS NULL) = (resolution IS NULL))
);
CREATE INDEX quarantine_open ON metering.quarantine (reason, next_attempt_at) WHERE resolved_at IS NULL;
-- The events of a key that appears.
CREATE INDEX quarantine_unknown_keys ON metering.quarantine USING gin (key_hashes)
    WHERE resolved_at IS NULL AND reason = 'unknown_key';
CREATE INDEX quarantine_received ON metering.quarantine (received_at);

-- Denied calls of strangers beyond the first 10,000 in quarantine: a count an hour and presented key, not a row each.
CREATE TABLE metering.denied_calls (
    hour timestamptz NOT NULL,
    key_hash bytea NOT NULL,
    calls bigint NOT NULL,
    PRIMARY KEY (hour, key_hash)
);
