-- The facts with what a few days are found by: an event's key, which begins with its time, and Laravel's created_at, which
-- its index on (user_id, created_at) holds. So `verify` and `rebuild` of a day read that day, not all history. What a row
-- contributes is as it was.

-- What the events on a stretch of the line contribute, from the id behind `after` to `through`.
DROP FUNCTION metering.event_facts(bigint, bigint);
CREATE FUNCTION metering.event_facts(after bigint, through bigint)
RETURNS TABLE (log_id bigint, event_key uuid, written_at timestamp, user_id bigint, occurred_at timestamptz,
               model text, provider text, status text, plan text,
               input_tokens bigint, output_tokens bigint, cached_tokens bigint, reasoning_tokens bigint,
               duration_ms bigint, first_token_ms bigint, cost numeric, ledger_cost numeric)
LANGUAGE sql STABLE AS $$
    SELECT e.api_log_id, e.event_key, NULL::timestamp, e.user_id, e.occurred_at,
           e.model_group, e.provider, e.status, e.plan,
           e.input_tokens, e.output_tokens, e.cached_tokens, e.reasoning_tokens, e.duration_ms, e.first_token_ms, e.cost,
           coalesce(e.ledger_cost, least(round(coalesce(e.cost, 0), 6), 9999.999999))
    FROM metering.events e
    WHERE e.api_log_id > after AND e.api_log_id <= through
$$;

-- What the rows of api_logs without an event contribute. Laravel writes UTC; a row whose time is none of a calendar's
-- (NULL, infinite) stands at the epoch.
DROP FUNCTION metering.log_facts(bigint, bigint);
CREATE FUNCTION metering.log_facts(after bigint, through bigint)
RETURNS TABLE (log_id bigint, event_key uuid, written_at timestamp, user_id bigint, occurred_at timestamptz,
               model text, provider text, status text, plan text,
               input_tokens bigint, output_tokens bigint, cached_tokens bigint, reasoning_tokens bigint,
               duration_ms bigint, first_token_ms bigint, cost numeric, ledger_cost numeric)
LANGUAGE sql STABLE AS $$
    SELECT l.id, NULL::uuid, l.created_at, l.user_id,
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

-- Days of all users, for the operator's questions who uses most: they are a small part of the table, which begins with the user.
-- Equal days share an entry, so it is a fraction of the primary key's size.
CREATE INDEX usage_days_time ON metering.usage_days (day);

-- Calls by the moment they occurred, for what only they know: error codes, tags, end users. They arrive nearly in the order of
-- time, so a summary of each stretch of the table is enough; it costs ingest next to nothing.
CREATE INDEX events_time ON metering.events USING brin (occurred_at) WITH (pages_per_range = 32, autosummarize = on);
