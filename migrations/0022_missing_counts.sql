-- A count that another writer left out is 0, and a duration that it left out is none.
--
-- least() and greatest() ignore NULL, so 0019 took a NULL count for the largest number. Laravel's columns have no NULL
-- unless somebody dropped NOT NULL. Rollups that hold such a row are found by `aggregation-worker verify` and made again
-- by `rebuild`.

-- As in 0019, with what is missing asked for first.
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
           greatest(least(coalesce(l.input_tokens, 0), 9223372036854774784), -9223372036854774784)::bigint,
           greatest(least(coalesce(l.output_tokens, 0), 9223372036854774784), -9223372036854774784)::bigint,
           0::bigint, 0::bigint,
           CASE WHEN l.response_time_ms IS NOT NULL
                THEN greatest(least(l.response_time_ms, 9223372036854774784), -9223372036854774784)::bigint END,
           NULL::bigint,
           metering.plausible_cost(l.total_cost::numeric),
           coalesce(metering.plausible_cost(l.total_cost::numeric), 0), false
    FROM metering.id_ranges(after, through) r
    JOIN public.api_logs l ON l.id OPERATOR(pg_catalog.>) r.lower AND l.id OPERATOR(pg_catalog.<=) r.upper
    WHERE NOT EXISTS (
        SELECT FROM metering.events e
        WHERE e.api_log_id OPERATOR(pg_catalog.=) (l.id OPERATOR(pg_catalog.+) r.shift)
          AND e.api_log_id OPERATOR(pg_catalog.>) after AND e.api_log_id OPERATOR(pg_catalog.<=) through)
$$;
