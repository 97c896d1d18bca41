-- The exact facts of every stored event. The key begins with the event's own start in milliseconds, so a month is a range
-- of keys, a month's retention is DROP TABLE, and new keys meet the cached end of the index. Columns go from wide to narrow.
CREATE TABLE metering.events (
    event_key uuid NOT NULL,
    api_log_id bigint NOT NULL,
    user_id bigint NOT NULL,
    occurred_at timestamptz NOT NULL,
    input_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    cached_tokens bigint NOT NULL,
    reasoning_tokens bigint NOT NULL,
    -- Milliseconds; NULL where the sender stated none.
    duration_ms bigint,
    first_token_ms bigint,
    -- First 64 bits of a SHA-256 of tokens, cost literal and status: a re-sent event is a duplicate when it is equal.
    billable_digest bigint NOT NULL,
    -- What the event added to its user's windows.
    quota_tokens bigint NOT NULL,
    quota_requests smallint NOT NULL,
    is_stream boolean NOT NULL,
    is_cache_hit boolean NOT NULL,
    -- USD; NULL means unpriced, which is not zero.
    cost numeric(20, 12),
    shape text NOT NULL,
    status text NOT NULL,
    -- The user's plan when the event was stored.
    plan text NOT NULL,
    provider text,
    -- The name the client asked for, and the deployment that served it.
    model_group text NOT NULL,
    model text,
    call_type text,
    error_code text,
    end_user text,
    tags text[],
    flags text[],
    key_hash bytea,
    PRIMARY KEY (event_key)
) PARTITION BY RANGE (event_key);

-- A missing month fails nothing.
CREATE TABLE metering.events_default PARTITION OF metering.events DEFAULT;
-- Names given by senders (Idempotency-Key, event_id) carry no time and have a range of their own.
CREATE TABLE metering.events_named PARTITION OF metering.events
    FOR VALUES FROM ('ffff0000-0000-0000-0000-000000000000') TO (MAXVALUE);

-- Creates the partition of the month that holds `day`; does nothing where it exists, or where the default partition
-- already holds some of its rows. Attached and not created as a partition: ingest and readers of other months go on, as
-- only the default partition is locked against them.
CREATE FUNCTION metering.create_events_partition(day date) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    month date := date_trunc('month', day);
    partition text := 'events_' || to_char(month, 'YYYY_MM');
    lower uuid := metering.event_key_floor(month::timestamp AT TIME ZONE 'UTC');
    upper uuid := metering.event_key_floor((month + interval '1 month')::timestamp AT TIME ZONE 'UTC');
BEGIN
    -- Two at once would both find it missing.
    PERFORM pg_advisory_xact_lock(hashtext('metering.events'));
    IF to_regclass('metering.' || partition) IS NOT NULL
        OR EXISTS (SELECT FROM metering.events_default WHERE event_key >= lower AND event_key < upper) THEN
        RETURN;
    END IF;
    EXECUTE format('CREATE TABLE metering.%I (LIKE metering.events INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', partition);
    EXECUTE format('ALTER TABLE metering.events ATTACH PARTITION metering.%I FOR VALUES FROM (%L) TO (%L)',
                   partition, lower, upper);
END
$$;

-- The smallest event key of a moment.
CREATE FUNCTION metering.event_key_floor(moment timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT rpad(lpad(to_hex((extract(epoch FROM moment) * 1000)::bigint), 12, '0'), 32, '0')::uuid
$$;
