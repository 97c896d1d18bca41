-- Values of other writers are data. A row of api_logs can hold a cost that is no number (NaN, an infinity) or no price
-- (100,000,000 USD or more), where Laravel's column is no longer numeric(10, 6). One such row made each sum that held
-- it NaN, for ever. Such a row is unpriced from now on. Sums that are NaN are made again below.

-- A cost of a single call, in USD with at most 12 decimals; NULL where it is none.
CREATE FUNCTION metering.plausible_cost(amount numeric) RETURNS numeric LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT CASE WHEN amount OPERATOR(pg_catalog.>) -100000000::numeric
                 AND amount OPERATOR(pg_catalog.<) 100000000::numeric
                THEN CASE WHEN pg_catalog.scale(amount) OPERATOR(pg_catalog.<=) 12 THEN amount
                          ELSE pg_catalog.round(amount, 12) END
           END;
END;

-- A sum that a report can use: one that is NaN or infinite adds nothing until `rebuild` has made it again.
CREATE FUNCTION metering.finite(amount numeric) RETURNS numeric LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT CASE WHEN amount OPERATOR(pg_catalog.>) '-Infinity'::numeric
                 AND amount OPERATOR(pg_catalog.<) 'Infinity'::numeric
                THEN amount ELSE 0::numeric END;
END;

-- As before, by positions (0018), with the cost that a row has, if any. Numbers fit whatever whole type Laravel's columns
-- have now. It reads a table of Laravel's, hence a body of text (0017).
CREATE OR REPLACE FUNCTION metering.log_facts(after bigint, through bigint)
RETURNS TABLE (log_id bigint, event_key uuid, written_at timestamp, user_id bigint, occurred_at timestamptz,
               model text, provider text, status text, plan text,
               input_tokens bigint, output_tokens bigint, cached_tokens bigint, reasoning_tokens bigint,
               duration_ms bigint, first_token_ms bigint, cost numeric, ledger_cost numeric, is_self_reported boolean)
LANGUAGE sql STABLE AS $$
    SELECT l.id OPERATOR(pg_catalog.+) r.shift, NULL::pg_catalog.uuid, l.created_at, l.user_id,
           CASE WHEN l.created_at OPERATOR(pg_catalog.>=) '1970-01-01'
                 AND l.created_at OPERATOR(pg_catalog.<) '9999-01-01'
                THEN l.created_at AT TIME ZONE 'UTC' ELSE 'epoch' END,
           coalesce(l.model::pg_catalog.text, 'unknown'), NULL::pg_catalog.text,
           coalesce(l.status::pg_catalog.text, 'success'), NULL::pg_catalog.text,
           coalesce(greatest(least(l.input_tokens, 9223372036854774784), -9223372036854774784)::bigint, 0),
           coalesce(greatest(least(l.output_tokens, 9223372036854774784), -9223372036854774784)::bigint, 0),
           0::bigint, 0::bigint,
           greatest(least(l.response_time_ms, 9223372036854774784), -9223372036854774784)::bigint, NULL::bigint,
           metering.plausible_cost(l.total_cost::numeric),
           coalesce(metering.plausible_cost(l.total_cost::numeric), 0), false
    FROM metering.id_ranges(after, through) r
    JOIN public.api_logs l ON l.id OPERATOR(pg_catalog.>) r.lower AND l.id OPERATOR(pg_catalog.<=) r.upper
    WHERE NOT EXISTS (
        SELECT FROM metering.events e
        WHERE e.api_log_id OPERATOR(pg_catalog.=) (l.id OPERATOR(pg_catalog.+) r.shift)
          AND e.api_log_id OPERATOR(pg_catalog.>) after AND e.api_log_id OPERATOR(pg_catalog.<=) through)
$$;

-- A worker of an older version waits with its next step until this is done, and so does the fold of the counters.
SELECT FROM metering.usage_cursor FOR UPDATE;
SELECT pg_advisory_xact_lock(hashtext('metering.quota_usage'));

-- Cells of users, from the rows that are there. Where none is left, the price is unknown.
WITH broken AS MATERIALIZED (
    SELECT user_id, quarter, dimension FROM metering.usage_quarters
    WHERE user_id <> 0 AND (metering.finite(cost), metering.finite(ledger_cost)) <> (cost, ledger_cost)
), fact AS (
    SELECT f.*
    FROM metering.usage_cursor c CROSS JOIN LATERAL (
        SELECT * FROM metering.event_facts(0, c.event_log_id)
        UNION ALL SELECT * FROM metering.log_facts(0, c.other_log_id)
    ) f
    WHERE EXISTS (SELECT FROM broken) AND f.user_id = ANY(ARRAY(SELECT user_id FROM broken))
), made AS (
    SELECT f.user_id, metering.quarter_of(f.occurred_at) AS quarter, d.dimension,
           count(*) - count(f.cost) AS unpriced, coalesce(sum(f.cost), 0) AS cost, sum(f.ledger_cost) AS ledger_cost
    FROM fact f
    JOIN metering.usage_dimensions d
        ON d.model = f.model AND d.status = f.status AND d.provider IS NOT DISTINCT FROM f.provider
        AND d.plan IS NOT DISTINCT FROM f.plan AND d.is_self_reported = f.is_self_reported
    GROUP BY 1, 2, 3
)
UPDATE metering.usage_quarters u
SET unpriced = coalesce(m.unpriced, u.requests), cost = coalesce(m.cost, 0), ledger_cost = coalesce(m.ledger_cost, 0)
FROM broken b LEFT JOIN made m USING (user_id, quarter, dimension)
WHERE (u.user_id, u.quarter, u.dimension) = (b.user_id, b.quarter, b.dimension);

-- Cells of all users, and days, from these.
UPDATE metering.usage_quarters u
SET (unpriced, cost, ledger_cost) = (
    SELECT coalesce(sum(c.unpriced), 0), coalesce(sum(c.cost), 0), coalesce(sum(c.ledger_cost), 0)
    FROM metering.usage_quarters c
    WHERE c.user_id <> 0 AND c.quarter = u.quarter AND c.dimension = u.dimension)
WHERE u.user_id = 0 AND (metering.finite(u.cost), metering.finite(u.ledger_cost)) <> (u.cost, u.ledger_cost);

UPDATE metering.usage_days u
SET (unpriced, cost, ledger_cost) = (
    SELECT coalesce(sum(c.unpriced), 0), coalesce(sum(c.cost), 0), coalesce(sum(c.ledger_cost), 0)
    FROM metering.usage_quarters c
    WHERE c.user_id = u.user_id AND c.dimension = u.dimension
      AND c.quarter >= (u.day - '1970-01-01'::date) * 96 AND c.quarter < (u.day - '1970-01-01'::date + 1) * 96
      AND c.quarter < (SELECT days_before FROM metering.usage_cursor))
WHERE (metering.finite(u.cost), metering.finite(u.ledger_cost)) <> (u.cost, u.ledger_cost);

-- The next pass makes usage_spans again.
UPDATE metering.usage_cursor SET spans_through = NULL
WHERE EXISTS (SELECT FROM metering.usage_spans s WHERE metering.finite(s.cost) <> s.cost);

-- What users have used of their budgets, without what waits in deltas; a delta that is NaN adds nothing.
WITH broken AS MATERIALIZED (
    SELECT q.user_id, q.period, q.window_start,
           (q.window_start + CASE q.period WHEN 'daily' THEN interval '1 day' ELSE interval '1 month' END)::date AS ends
    FROM metering.quota_usage q WHERE metering.finite(q.cost) <> q.cost
), contribution AS (
    SELECT e.user_id, (e.occurred_at AT TIME ZONE 'UTC')::date AS day, coalesce(e.cost, 0) AS cost
    FROM metering.events e
    WHERE EXISTS (SELECT FROM broken) AND e.quota_requests > 0 AND e.user_id = ANY(ARRAY(SELECT user_id FROM broken))
    UNION ALL
    SELECT f.user_id, (f.occurred_at AT TIME ZONE 'UTC')::date, coalesce(f.cost, 0)
    FROM metering.usage_cursor c CROSS JOIN LATERAL metering.log_facts(0, c.other_log_id) f
    WHERE EXISTS (SELECT FROM broken) AND f.user_id = ANY(ARRAY(SELECT user_id FROM broken))
      AND f.status <> 'rate_limited' AND f.log_id > (SELECT counted_log_id FROM metering.installation)
    UNION ALL
    SELECT d.user_id, d.day, -metering.finite(d.cost)
    FROM metering.quota_deltas q, LATERAL unnest(q.user_ids, q.days, q.costs) AS d (user_id, day, cost)
), made AS (
    SELECT b.user_id, b.period, b.window_start, coalesce(sum(c.cost), 0) AS cost
    FROM broken b LEFT JOIN contribution c ON c.user_id = b.user_id AND c.day >= b.window_start AND c.day < b.ends
    GROUP BY 1, 2, 3
)
UPDATE metering.quota_usage q SET cost = m.cost
FROM made m WHERE (q.user_id, q.period, q.window_start) = (m.user_id, m.period, m.window_start);
