-- What LiteLLM asks before a call, and what it tells of its spools.

-- A limit that is NULL is the plan's; a budget, in USD, only a user can have.
ALTER TABLE metering.user_limits
    ALTER COLUMN tokens DROP NOT NULL,
    ALTER COLUMN requests DROP NOT NULL,
    ADD COLUMN budget numeric(20, 12) CHECK (budget >= 0);

-- The models a user may call, by the names that LiteLLM offers; whoever has no row may call all.
CREATE TABLE metering.user_models (
    user_id bigint PRIMARY KEY,
    models text[] NOT NULL
);

-- USD, beside tokens and requests; an unpriced call adds nothing. NULL where the delta was written by an older service.
ALTER TABLE metering.quota_deltas ADD COLUMN costs numeric[];
ALTER TABLE metering.quota_usage ADD COLUMN cost numeric NOT NULL DEFAULT 0;

-- Budgets begin with what this month has cost.
INSERT INTO metering.quota_usage AS q (user_id, period, window_start, tokens, requests, cost)
SELECT e.user_id, w.period, w.window_start, 0, 0, sum(e.cost)
FROM metering.events e
CROSS JOIN LATERAL (
    VALUES ('daily', (e.occurred_at AT TIME ZONE 'UTC')::date),
           ('monthly', date_trunc('month', e.occurred_at AT TIME ZONE 'UTC')::date)
) AS w (period, window_start)
WHERE e.occurred_at >= date_trunc('month', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'
  AND (e.event_key >= metering.event_key_floor(date_trunc('month', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'))
  AND e.quota_requests > 0 AND e.cost > 0
GROUP BY 1, 2, 3
ON CONFLICT (user_id, period, window_start) DO UPDATE SET cost = excluded.cost;

-- A worker of LiteLLM numbers its events without holes in a spool of its own: what is missing here it sends again.
CREATE TABLE metering.spools (
    spool uuid PRIMARY KEY,
    highest bigint NOT NULL,
    gaps int8multirange NOT NULL,
    gap_since timestamptz,
    -- Events for which the proxy's disk and memory had no room, since it started.
    lost bigint NOT NULL,
    seen_at timestamptz NOT NULL
);
