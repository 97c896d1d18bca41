-- Usage by time, user, model, provider, status and plan: sums that answer a dashboard in milliseconds at any number of rows.
--
-- Grain. The finest cell is a quarter of an hour in UTC, kept for ever: every zone's offset is a multiple of it, so the
-- days and hours of any zone are sums of whole cells. A user's month of quarters is too many rows to read, hence a second
-- table by UTC day. A day of another zone is a UTC day with quarters moved across its two edges; a range of 30 days in
-- UTC is 30 rows a dimension, in any other zone these and a few quarters.
--
-- Days are written late. A pass of the worker writes quarters only; what lies before `usage_cursor.days_before` is in
-- usage_days too, and that border moves up once an hour. So a user's day is written a few times and not at every pass (the
-- write is nine tenths of a fold), and a row that comes late, behind the border, is added to both. Each table alone is
-- exact: usage_quarters for all time, usage_days for all quarters before the border.
--
-- One row for everybody. User 0 (Laravel's ids begin at 1) has the sums of all users in both tables, for the operator's
-- overview. Nothing else crosses users: every table has user_id, as a distributed database would want it.
--
-- Dimensions are a number, so that a cell of a rare user, which holds one event or two, stays small. Rows that Laravel
-- writes itself know neither provider nor plan: both are NULL, whatever the user's plan is when the row is read or folded.
--
-- Histograms are bags of (bucket << 40) + count. Buckets grow by 4 %, so the geometric middle of one is within 2 % of all it
-- holds; those of the time to first token begin at 2000. The same bucket may stand in a bag several times (up to 64
-- elements are not worth merging); whoever reads sums them.
--
-- What is folded. Ids of api_logs are one line: a row of metering.events stands on it at its api_log_id, a row of api_logs
-- without an event (Laravel's own, and history older than us) at its id. Both kinds are folded along the line, each to its
-- own cursor; behind the cursors is the tail, which readers add to the sums in the same snapshot. Events are folded when
-- there are many; others, of which there are few, every second, because finding them in a long tail is slow: there is no
-- index for it, and Laravel's table gets none. The functions event_facts and log_facts define what a row contributes, for
-- the fold, the tail and verify alike, so no answer changes when a pass goes by:
--   * an event counts by its facts in metering.events, also when Laravel has deleted its row of api_logs;
--   * a row without an event counts as it is when folded; deleted before that, it never was; afterwards, it stays.
-- An id is final when all transactions are gone that held the table's ROW EXCLUSIVE lock when the sequence stood there:
-- ids are drawn under that lock, inside the INSERT. The lock is only looked at, never taken.
--
-- Deleting raw rows does not touch the sums. Before `sealed_before` raw rows are gone by retention, and so are those of a user
-- whom Laravel no longer has: these sums cannot be made again, and `rebuild` refuses to.

-- Building it keeps out writers for about 2 s a million events; webhook-api answers 503 meanwhile, and is sent them again.
-- It ends in user_id because a user's part of the tail is then picked from the index alone.
CREATE INDEX events_log_id ON metering.events (api_log_id, user_id);

-- Laravel's rounding of the literal, where rounding our 12 digits to 6 gives another number (0.0000014999999999999).
ALTER TABLE metering.events ADD COLUMN ledger_cost numeric(10, 6);

-- Until when Laravel's own rows up to counted_log_id were counted: that day's and month's windows hold them.
ALTER TABLE metering.installation ADD COLUMN counted_at timestamptz;
UPDATE metering.installation SET counted_at = adopted_at;

CREATE TABLE metering.usage_dimensions (
    dimension integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    model text NOT NULL,
    provider text,
    status text NOT NULL,
    plan text,
    UNIQUE NULLS NOT DISTINCT (model, provider, status, plan)
);

-- A quarter of an hour, counted from 1970-01-01T00:00Z.
CREATE TABLE metering.usage_quarters (
    user_id bigint NOT NULL,
    quarter integer NOT NULL,
    dimension integer NOT NULL,
    requests bigint NOT NULL,
    -- Requests without a known price, which is not a price of zero.
    unpriced bigint NOT NULL,
    input_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    cached_tokens bigint NOT NULL,
    reasoning_tokens bigint NOT NULL,
    -- Milliseconds; a request whose sender stated none adds 0, as Laravel's average has it.
    duration_ms bigint NOT NULL,
    -- Exact, of the priced; and as Laravel's numeric(10,6) rounds each row.
    cost numeric NOT NULL,
    ledger_cost numeric NOT NULL,
    histogram bigint[] NOT NULL,
    PRIMARY KEY (user_id, quarter, dimension)
) WITH (fillfactor = 90);
-- For moving the border. Equal quarters share an entry, so it is a tenth of the primary key's size.
CREATE INDEX usage_quarters_time ON metering.usage_quarters (quarter);

CREATE TABLE metering.usage_days (
    user_id bigint NOT NULL,
    day date NOT NULL,
    dimension integer NOT NULL,
    requests bigint NOT NULL,
    unpriced bigint NOT NULL,
    input_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    cached_tokens bigint NOT NULL,
    reasoning_tokens bigint NOT NULL,
    duration_ms bigint NOT NULL,
    cost numeric NOT NULL,
    ledger_cost numeric NOT NULL,
    histogram bigint[] NOT NULL,
    PRIMARY KEY (user_id, day, dimension)
) WITH (fillfactor = 90);

CREATE TABLE metering.usage_cursor (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    -- Events up to this api_log_id, and rows of api_logs without an event up to this id, are in the tables above.
    event_log_id bigint NOT NULL,
    other_log_id bigint NOT NULL,
    -- Every id up to this one is final.
    settled_log_id bigint NOT NULL,
    -- The id that is final next: when these transactions (pg_locks.virtualtransaction) are gone.
    marked_log_id bigint,
    marked_transactions text[],
    -- Quarters before this one are in usage_days.
    days_before integer NOT NULL,
    sealed_before timestamptz NOT NULL,
    -- The last pass that went to its end.
    passed_at timestamptz,
    passed_rows bigint,
    pass_ms bigint
);
INSERT INTO metering.usage_cursor (event_log_id, other_log_id, settled_log_id, days_before, sealed_before)
VALUES (0, 0, 0, -2147483648, '-infinity');

CREATE FUNCTION metering.quarter_of(moment timestamptz) RETURNS integer LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT floor(date_part('epoch', moment) / 900)::integer
$$;

CREATE FUNCTION metering.quarter_start(quarter integer) RETURNS timestamptz LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT 'epoch'::timestamptz + quarter * interval '15 minutes'
$$;

-- The UTC day that holds a quarter.
CREATE FUNCTION metering.day_of(quarter integer) RETURNS date LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT '1970-01-01'::date + floor(quarter / 96.0)::integer
$$;

-- The bucket of milliseconds, from 0 to about 1115; the logarithm is that of 1.04.
CREATE FUNCTION metering.bucket_of(milliseconds bigint) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN milliseconds >= 1 THEN 1 + floor(ln(milliseconds::float8) / 0.03922071315328133)::bigint
                WHEN milliseconds < 1 THEN 0 END
$$;

-- The middle of a bucket, in milliseconds.
CREATE FUNCTION metering.bucket_middle(bucket bigint) RETURNS float8 LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT CASE WHEN bucket = 0 THEN 0 ELSE exp((bucket - 0.5) * 0.03922071315328133) END
$$;

-- Each bucket once, in order.
CREATE FUNCTION metering.merged(histogram bigint[]) RETURNS bigint[] LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT array_agg((b.bucket << 40) + b.count ORDER BY b.bucket)
    FROM (SELECT e >> 40 AS bucket, sum(e & 1099511627775)::bigint AS count FROM unnest(histogram) e GROUP BY 1) b
$$;

CREATE AGGREGATE metering.joined(bigint[]) (SFUNC = array_cat, STYPE = bigint[], PARALLEL = SAFE);

-- What the events on a stretch of the line contribute, from the id behind `after` to `through`.
CREATE FUNCTION metering.event_facts(after bigint, through bigint)
RETURNS TABLE (log_id bigint, user_id bigint, occurred_at timestamptz, model text, provider text, status text, plan text,
               input_tokens bigint, output_tokens bigint, cached_tokens bigint, reasoning_tokens bigint,
               duration_ms bigint, first_token_ms bigint, cost numeric, ledger_cost numeric)
LANGUAGE sql STABLE AS $$
    SELECT e.api_log_id, e.user_id, e.occurred_at, e.model_group, e.provider, e.status, e.plan,
           e.input_tokens, e.output_tokens, e.cached_tokens, e.reasoning_tokens, e.duration_ms, e.first_token_ms, e.cost,
           coalesce(e.ledger_cost, least(round(e.cost, 6), 9999.999999), 0)
    FROM metering.events e
    WHERE e.api_log_id > after AND e.api_log_id <= through
$$;

-- What the rows of api_logs without an event contribute. Laravel writes UTC; a row whose time is none of a calendar's
-- (NULL, infinite) stands at the epoch.
CREATE FUNCTION metering.log_facts(after bigint, through bigint)
RETURNS TABLE (log_id bigint, user_id bigint, occurred_at timestamptz, model text, provider text, status text, plan text,
               input_tokens bigint, output_tokens bigint, cached_tokens bigint, reasoning_tokens bigint,
               duration_ms bigint, first_token_ms bigint, cost numeric, ledger_cost numeric)
LANGUAGE sql STABLE AS $$
    SELECT l.id, l.user_id,
           CASE WHEN l.created_at >= '1970-01-01' AND l.created_at < '9999-01-01'
                THEN l.created_at AT TIME ZONE 'UTC' ELSE 'epoch' END,
           l.model::text, NULL::text, l.status::text, NULL::text,
           l.input_tokens::bigint, l.output_tokens::bigint, 0::bigint, 0::bigint, l.response_time_ms::bigint, NULL::bigint,
           l.total_cost::numeric, l.total_cost::numeric
    FROM public.api_logs l
    WHERE l.id > after AND l.id <= through
      AND NOT EXISTS (
          SELECT FROM metering.events e
          WHERE e.api_log_id = l.id AND e.api_log_id > after AND e.api_log_id <= through)
$$;
