-- Usage that users report themselves, and events that an operator withdraws.

-- Self-reported events (flag in metering.events.flags) count for their user and not for the operator: their rollups
-- have dimensions of their own, which the rollups of all users (user_id 0) and usage_spans leave out. Stop a worker of
-- an older version before ADMIN_USAGE_LOG is switched on: it does not know the column, and would count these events
-- twice.
ALTER TABLE metering.usage_dimensions
    ADD COLUMN is_self_reported boolean NOT NULL DEFAULT false,
    DROP CONSTRAINT usage_dimensions_model_provider_status_plan_key,
    ADD UNIQUE NULLS NOT DISTINCT (model, provider, status, plan, is_self_reported);

-- What events contribute, as before, and whether they are self-reported.
DROP FUNCTION metering.event_facts(bigint, bigint);
CREATE FUNCTION metering.event_facts(after bigint, through bigint)
RETURNS TABLE (log_id bigint, event_key uuid, written_at timestamp, user_id bigint, occurred_at timestamptz,
               model text, provider text, status text, plan text,
               input_tokens bigint, output_tokens bigint, cached_tokens bigint, reasoning_tokens bigint,
               duration_ms bigint, first_token_ms bigint, cost numeric, ledger_cost numeric, is_self_reported boolean)
LANGUAGE sql STABLE AS $$
    SELECT e.api_log_id, e.event_key, NULL::timestamp, e.user_id, e.occurred_at,
           e.model_group, e.provider, e.status, e.plan,
           e.input_tokens, e.output_tokens, e.cached_tokens, e.reasoning_tokens, e.duration_ms, e.first_token_ms,
           e.cost,
           coalesce(e.ledger_cost, least(round(coalesce(e.cost, 0), 6), 9999.999999)),
           coalesce(e.flags @> '{self_reported}', false)
    FROM metering.events e
    WHERE e.api_log_id > after AND e.api_log_id <= through
$$;

DROP FUNCTION metering.log_facts(bigint, bigint);
CREATE FUNCTION metering.log_facts(after bigint, through bigint)
RETURNS TABLE (log_id bigint, event_key uuid, written_at timestamp, user_id bigint, occurred_at timestamptz,
               model text, provider text, status text, plan text,
               input_tokens bigint, output_tokens bigint, cached_tokens bigint, reasoning_tokens bigint,
               duration_ms bigint, first_token_ms bigint, cost numeric, ledger_cost numeric, is_self_reported boolean)
LANGUAGE sql STABLE AS $$
    SELECT l.id, NULL::uuid, l.created_at, l.user_id,
           CASE WHEN l.created_at >= '1970-01-01' AND l.created_at < '9999-01-01'
                THEN l.created_at AT TIME ZONE 'UTC' ELSE 'epoch' END,
           l.model::text, NULL::text, l.status::text, NULL::text,
           l.input_tokens::bigint, l.output_tokens::bigint, 0::bigint, 0::bigint, l.response_time_ms::bigint,
           NULL::bigint,
           l.total_cost::numeric, l.total_cost::numeric, false
    FROM public.api_logs l
    WHERE l.id > after AND l.id <= through
      AND NOT EXISTS (
          SELECT FROM metering.events e
          WHERE e.api_log_id = l.id AND e.api_log_id > after AND e.api_log_id <= through)
$$;

-- One row for each withdrawn event, so that a delivery that comes again is a duplicate and not stored anew.
CREATE TABLE metering.withdrawn_events (
    event_key uuid PRIMARY KEY,
    api_log_id bigint NOT NULL,
    user_id bigint NOT NULL,
    input_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    billable_digest bigint NOT NULL,
    key_hash bytea,
    withdrawn_at timestamptz NOT NULL,
    -- The database role that withdrew it, as PostgreSQL knows it.
    withdrawn_by text NOT NULL,
    reason text,
    -- The row of metering.events as it was.
    facts jsonb NOT NULL
);
CREATE INDEX withdrawn_events_log_id ON metering.withdrawn_events (api_log_id);

-- Which of `keys` are withdrawn by now. VOLATILE, so that it has a snapshot of its own: an INSERT that waited for the
-- withdrawal of its key sees it here, although it began before.
CREATE FUNCTION metering.withdrawn(keys uuid[]) RETURNS SETOF uuid LANGUAGE sql VOLATILE AS $$
    SELECT w.event_key FROM metering.withdrawn_events w WHERE w.event_key = ANY(keys)
$$;

-- A histogram without the counts of another.
CREATE FUNCTION metering.without(histogram bigint[], removed bigint[]) RETURNS bigint[]
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT coalesce(array_agg((b.bucket << 40) + b.count ORDER BY b.bucket), '{}')
    FROM (
        SELECT e.bucket, sum(e.count)::bigint AS count
        FROM (SELECT h >> 40 AS bucket, h & 1099511627775 AS count FROM unnest(histogram) h
              UNION ALL
              SELECT r >> 40, -(r & 1099511627775) FROM unnest(removed) r) e
        GROUP BY 1 HAVING sum(e.count) > 0
    ) b
$$;

-- What was kept of unreadable bodies and of errors' texts until now can contain prompts: no more is left than is kept
-- of new ones.
UPDATE metering.quarantine SET excerpt = NULL WHERE excerpt IS NOT NULL;
UPDATE metering.quarantine
SET event = jsonb_set(
    event, '{errorMessage}', to_jsonb(left(substring(event ->> 'errorMessage' FROM '^[^''"`{\[<[:cntrl:]]*'), 200)))
WHERE event ->> 'errorMessage' IS NOT NULL;
