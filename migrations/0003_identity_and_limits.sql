-- Every key that we have seen a user hold, and when. A replaced key still finds its user for the calls made before.
-- No foreign key into Laravel's tables: it would put triggers on them (design.md section 1.5).
CREATE TABLE metering.api_keys (
    key_hash bytea NOT NULL CHECK (octet_length(key_hash) = 32),
    user_id bigint NOT NULL,
    -- '-infinity' for the first holder: the key is older than our first look at it.
    valid_from timestamptz NOT NULL,
    valid_to timestamptz CHECK (valid_to >= valid_from),
    -- When we first saw it: events of a key that was unknown until then are waiting in quarantine.
    seen_at timestamptz NOT NULL,
    PRIMARY KEY (key_hash, valid_from)
);
CREATE UNIQUE INDEX api_keys_current_key ON metering.api_keys (key_hash) WHERE valid_to IS NULL;
CREATE UNIQUE INDEX api_keys_current_user ON metering.api_keys (user_id) WHERE valid_to IS NULL;

-- What each plan allows in a window; seeded with the application's figures (laravel.md section 3).
CREATE TABLE metering.plan_limits (
    plan text NOT NULL,
    period text NOT NULL CHECK (period IN ('daily', 'monthly')),
    tokens bigint NOT NULL CHECK (tokens >= 0),
    requests bigint NOT NULL CHECK (requests >= 0),
    PRIMARY KEY (plan, period)
);
INSERT INTO metering.plan_limits (plan, period, tokens, requests) VALUES
    ('starter', 'daily', 100000, 1000),
    ('starter', 'monthly', 1000000, 10000),
    ('pro', 'daily', 500000, 5000),
    ('pro', 'monthly', 10000000, 100000),
    ('agency', 'daily', 2000000, 20000),
    ('agency', 'monthly', 50000000, 500000);

-- A user's own limits, which stand instead of the plan's.
CREATE TABLE metering.user_limits (
    user_id bigint NOT NULL,
    period text NOT NULL CHECK (period IN ('daily', 'monthly')),
    tokens bigint NOT NULL CHECK (tokens >= 0),
    requests bigint NOT NULL CHECK (requests >= 0),
    PRIMARY KEY (user_id, period)
);

-- Models whose cost of zero is a price and not a missing price.
CREATE TABLE metering.free_models (
    model text PRIMARY KEY
);

-- The truth about a user's usage of a calendar window in UTC.
CREATE TABLE metering.quota_usage (
    user_id bigint NOT NULL,
    window_start date NOT NULL,
    period text NOT NULL CHECK (period IN ('daily', 'monthly')),
    tokens bigint NOT NULL,
    requests bigint NOT NULL,
    PRIMARY KEY (user_id, period, window_start)
) WITH (fillfactor = 70);
CREATE INDEX quota_usage_window ON metering.quota_usage (window_start, period);

-- What one transaction of stored events adds to quota_usage: one row a transaction, folded within a second and deleted.
-- Upserting the counters inside the ingest transaction instead halves its throughput (limits.md, A2).
CREATE TABLE metering.quota_deltas (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_ids bigint[] NOT NULL,
    days date[] NOT NULL,
    tokens bigint[] NOT NULL,
    requests bigint[] NOT NULL
);
