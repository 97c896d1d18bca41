-- A call whose sender stated no cost costs Laravel's ledger nothing. It was summed as 9999.999999, because LEAST passes over
-- NULL: least(round(cost, 6), 9999.999999) of no cost is the cap itself. What was folded meanwhile is put right below.
CREATE OR REPLACE FUNCTION metering.event_facts(after bigint, through bigint)
RETURNS TABLE (log_id bigint, user_id bigint, occurred_at timestamptz, model text, provider text, status text, plan text,
               input_tokens bigint, output_tokens bigint, cached_tokens bigint, reasoning_tokens bigint,
               duration_ms bigint, first_token_ms bigint, cost numeric, ledger_cost numeric)
LANGUAGE sql STABLE AS $$
    SELECT e.api_log_id, e.user_id, e.occurred_at, e.model_group, e.provider, e.status, e.plan,
           e.input_tokens, e.output_tokens, e.cached_tokens, e.reasoning_tokens, e.duration_ms, e.first_token_ms, e.cost,
           coalesce(e.ledger_cost, least(round(coalesce(e.cost, 0), 6), 9999.999999))
    FROM metering.events e
    WHERE e.api_log_id > after AND e.api_log_id <= through
$$;

-- An older worker waits with its next window until this is done.
SELECT FROM metering.usage_cursor FOR UPDATE;

WITH surplus AS MATERIALIZED (
    SELECT coalesce(e.user_id, 0) AS user_id, metering.quarter_of(e.occurred_at) AS quarter, d.dimension,
           count(*) * 9999.999999 AS amount
    FROM metering.events e
    JOIN metering.usage_dimensions d
        ON d.model = e.model_group AND d.status = e.status
        AND d.provider IS NOT DISTINCT FROM e.provider AND d.plan IS NOT DISTINCT FROM e.plan
    WHERE e.cost IS NULL AND e.ledger_cost IS NULL AND e.api_log_id <= (SELECT event_log_id FROM metering.usage_cursor)
    GROUP BY GROUPING SETS ((e.user_id, 2, 3), (2, 3))
), quarters AS (
    UPDATE metering.usage_quarters u SET ledger_cost = u.ledger_cost - s.amount
    FROM surplus s WHERE u.user_id = s.user_id AND u.quarter = s.quarter AND u.dimension = s.dimension
)
UPDATE metering.usage_days u SET ledger_cost = u.ledger_cost - s.amount
FROM (SELECT user_id, metering.day_of(quarter) AS day, dimension, sum(amount) AS amount
      FROM surplus WHERE quarter < (SELECT days_before FROM metering.usage_cursor)
      GROUP BY 1, 2, 3) s
WHERE u.user_id = s.user_id AND u.day = s.day AND u.dimension = s.dimension;
