-- What an aggregation-worker of version 20 sends to PostgreSQL in one pass, as the server logged it. Its parameters are
-- literals here: the positions after 0 up to 5, and the day boundary of 2026-11-28T10:00Z.

SELECT event_log_id, other_log_id, settled_log_id, days_before,
CASE WHEN isfinite(sealed_before) THEN metering.quarter_of(sealed_before) ELSE -2147483648 END,
CASE WHEN isfinite(logs_sealed_before) THEN metering.quarter_of(logs_sealed_before) ELSE -2147483648 END,
spans_through IS NOT DISTINCT FROM ARRAY[event_log_id, other_log_id, days_before] FROM metering.usage_cursor FOR
  UPDATE SKIP LOCKED;

UPDATE metering.usage_cursor SET days_before = 1995448;

UPDATE metering.usage_cursor SET spans_through = ARRAY[event_log_id, other_log_id, days_before];

UPDATE metering.usage_cursor
SET marked_transactions = ARRAY(SELECT DISTINCT l.virtualtransaction FROM (SELECT k.virtualtransaction, k.pid FROM
  pg_locks k
WHERE k.locktype = 'relation' AND k.relation = 'public.api_logs'::regclass AND k.mode = 'RowExclusiveLock'
  AND k.granted AND k.database = (SELECT oid FROM pg_database WHERE datname = current_database())) l)
WHERE marked_log_id IS NOT NULL AND marked_transactions IS NULL;

SELECT DISTINCT l.pid::bigint, a.application_name,
       to_char(a.xact_start, 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
FROM metering.usage_cursor c
JOIN (SELECT k.virtualtransaction, k.pid FROM pg_locks k
WHERE k.locktype = 'relation' AND k.relation = 'public.api_logs'::regclass AND k.mode = 'RowExclusiveLock'
  AND k.granted AND k.database = (SELECT oid FROM pg_database WHERE datname = current_database())) l ON
    l.virtualtransaction = ANY (c.marked_transactions) OR l.pid IS NULL
LEFT JOIN pg_stat_activity a ON a.pid = l.pid
WHERE c.marked_log_id IS NOT NULL
ORDER BY 3, 1;

UPDATE metering.usage_cursor c
SET marked_log_id = 5::bigint + k.shift, marked_transactions = NULL
FROM metering.id_epochs k
WHERE k.epoch = (SELECT max(o.epoch) FROM metering.id_epochs o)
  AND c.settled_log_id < 5::bigint + k.shift;

UPDATE metering.usage_cursor
SET settled_log_id = greatest(settled_log_id, marked_log_id), marked_log_id = NULL, marked_transactions = NULL,
    settled_snapshot = pg_current_snapshot();

SELECT event_log_id, other_log_id, settled_log_id, days_before,
CASE WHEN isfinite(sealed_before) THEN metering.quarter_of(sealed_before) ELSE -2147483648 END,
CASE WHEN isfinite(logs_sealed_before) THEN metering.quarter_of(logs_sealed_before) ELSE -2147483648 END,
spans_through IS NOT DISTINCT FROM ARRAY[event_log_id, other_log_id, days_before] FROM metering.usage_cursor FOR
  UPDATE SKIP LOCKED;

INSERT INTO metering.usage_dimensions (model, provider, status, plan, is_self_reported)
SELECT f.model, f.provider, f.status, f.plan, f.is_self_reported FROM metering.log_facts(0::bigint, 5::bigint) f
EXCEPT
SELECT d.model, d.provider, d.status, d.plan, d.is_self_reported FROM metering.usage_dimensions d
ON CONFLICT DO NOTHING;

WITH cell AS MATERIALIZED (
    SELECT coalesce(f.user_id, 0) AS user_id, metering.quarter_of(f.occurred_at) AS quarter, d.dimension,
           f.is_self_reported, count(*) AS requests, count(*) - count(f.cost) AS unpriced,
greatest(least(sum(f.input_tokens), 9223372036854775807), -9223372036854775807)::bigint AS input_tokens,
  greatest(least(sum(f.output_tokens), 9223372036854775807), -9223372036854775807)::bigint AS output_tokens,
greatest(least(sum(f.cached_tokens), 9223372036854775807), -9223372036854775807)::bigint AS cached_tokens,
greatest(least(sum(f.reasoning_tokens), 9223372036854775807), -9223372036854775807)::bigint AS reasoning_tokens,
greatest(least(sum(coalesce(f.duration_ms, 0)), 9223372036854775807), -9223372036854775807)::bigint AS duration_ms,
coalesce(sum(f.cost), 0) AS cost, sum(f.ledger_cost) AS ledger_cost,
  coalesce(array_agg((metering.bucket_of(f.duration_ms) << 40) + 1) FILTER (WHERE f.duration_ms IS NOT NULL)
         || array_agg((metering.bucket_of(f.first_token_ms) + 2000 << 40) + 1)
            FILTER (WHERE f.first_token_ms IS NOT NULL), '{}') AS histogram
    FROM metering.log_facts(0::bigint, 5::bigint) f LEFT JOIN metering.usage_dimensions d
    ON d.model = f.model AND d.status = f.status
    AND d.provider IS NOT DISTINCT FROM f.provider AND d.plan IS NOT DISTINCT FROM f.plan
    AND d.is_self_reported = f.is_self_reported
    GROUP BY GROUPING SETS ((f.user_id, 2, 3, 4), (2, 3, 4))
    -- What users report themselves is not in the rollups of all users.
    HAVING GROUPING(f.user_id) = 0 OR NOT f.is_self_reported
), complete AS MATERIALIZED (
    SELECT NOT EXISTS (SELECT FROM cell WHERE dimension IS NULL) AS is_complete
), quarters AS (
    INSERT INTO metering.usage_quarters AS u (user_id, quarter, dimension, requests, unpriced, input_tokens,
      output_tokens, cached_tokens, reasoning_tokens, duration_ms, cost, ledger_cost, histogram)
    SELECT c.user_id, c.quarter, c.dimension, c.requests, c.unpriced, c.input_tokens, c.output_tokens,
      c.cached_tokens, c.reasoning_tokens, c.duration_ms, c.cost, c.ledger_cost, CASE WHEN cardinality(c.histogram) <=
        64 THEN c.histogram ELSE metering.merged(c.histogram) END
    FROM cell c
    WHERE (SELECT is_complete FROM complete)
    ORDER BY 1, 2, 3
    ON CONFLICT (user_id, quarter, dimension) DO UPDATE SET requests = greatest(least(u.requests::numeric +
      excluded.requests, 9223372036854775807), -9223372036854775807)::bigint, unpriced =
        greatest(least(u.unpriced::numeric + excluded.unpriced, 9223372036854775807), -9223372036854775807)::bigint,
          input_tokens = greatest(least(u.input_tokens::numeric + excluded.input_tokens, 9223372036854775807),
            -9223372036854775807)::bigint, output_tokens = greatest(least(u.output_tokens::numeric +
              excluded.output_tokens, 9223372036854775807), -9223372036854775807)::bigint, cached_tokens =
                greatest(least(u.cached_tokens::numeric + excluded.cached_tokens, 9223372036854775807),
                  -9223372036854775807)::bigint, reasoning_tokens = greatest(least(u.reasoning_tokens::numeric +
                    excluded.reasoning_tokens, 9223372036854775807), -9223372036854775807)::bigint, duration_ms =
                      greatest(least(u.duration_ms::numeric + excluded.duration_ms, 9223372036854775807),
                        -9223372036854775807)::bigint, cost = u.cost + excluded.cost, ledger_cost = u.ledger_cost +
                          excluded.ledger_cost, histogram = CASE WHEN cardinality(u.histogram || excluded.histogram)
                            <= 64 THEN u.histogram || excluded.histogram ELSE metering.merged(u.histogram ||
                              excluded.histogram) END
), days AS (
    INSERT INTO metering.usage_days AS u (user_id, day, dimension, requests, unpriced, input_tokens, output_tokens,
      cached_tokens, reasoning_tokens, duration_ms, cost, ledger_cost, histogram)
    SELECT c.user_id, c.day, c.dimension, c.requests, c.unpriced, c.input_tokens, c.output_tokens, c.cached_tokens,
      c.reasoning_tokens, c.duration_ms, c.cost, c.ledger_cost, CASE WHEN cardinality(c.histogram) <= 64 THEN
        c.histogram ELSE metering.merged(c.histogram) END
    FROM (
        SELECT c.user_id, metering.day_of(c.quarter) AS day, c.dimension, greatest(least(sum(c.requests),
          9223372036854775807), -9223372036854775807)::bigint AS requests, greatest(least(sum(c.unpriced),
            9223372036854775807), -9223372036854775807)::bigint AS unpriced, greatest(least(sum(c.input_tokens),
              9223372036854775807), -9223372036854775807)::bigint AS input_tokens,
                greatest(least(sum(c.output_tokens), 9223372036854775807), -9223372036854775807)::bigint AS
                  output_tokens, greatest(least(sum(c.cached_tokens), 9223372036854775807),
                    -9223372036854775807)::bigint AS cached_tokens, greatest(least(sum(c.reasoning_tokens),
                      9223372036854775807), -9223372036854775807)::bigint AS reasoning_tokens,
                        greatest(least(sum(c.duration_ms), 9223372036854775807), -9223372036854775807)::bigint AS
                          duration_ms, sum(metering.finite(c.cost)) AS cost, sum(metering.finite(c.ledger_cost)) AS
                            ledger_cost, coalesce(metering.joined(c.histogram), '{}') AS histogram
        FROM cell c
        WHERE c.quarter < 1995448 AND (SELECT is_complete FROM complete)
        GROUP BY 1, 2, 3
    ) c
    ORDER BY 1, 2, 3
    ON CONFLICT (user_id, day, dimension) DO UPDATE SET requests = greatest(least(u.requests::numeric +
      excluded.requests, 9223372036854775807), -9223372036854775807)::bigint, unpriced =
        greatest(least(u.unpriced::numeric + excluded.unpriced, 9223372036854775807), -9223372036854775807)::bigint,
          input_tokens = greatest(least(u.input_tokens::numeric + excluded.input_tokens, 9223372036854775807),
            -9223372036854775807)::bigint, output_tokens = greatest(least(u.output_tokens::numeric +
              excluded.output_tokens, 9223372036854775807), -9223372036854775807)::bigint, cached_tokens =
                greatest(least(u.cached_tokens::numeric + excluded.cached_tokens, 9223372036854775807),
                  -9223372036854775807)::bigint, reasoning_tokens = greatest(least(u.reasoning_tokens::numeric +
                    excluded.reasoning_tokens, 9223372036854775807), -9223372036854775807)::bigint, duration_ms =
                      greatest(least(u.duration_ms::numeric + excluded.duration_ms, 9223372036854775807),
                        -9223372036854775807)::bigint, cost = u.cost + excluded.cost, ledger_cost = u.ledger_cost +
                          excluded.ledger_cost, histogram = CASE WHEN cardinality(u.histogram || excluded.histogram)
                            <= 64 THEN u.histogram || excluded.histogram ELSE metering.merged(u.histogram ||
                              excluded.histogram) END
), spans AS (
    INSERT INTO metering.usage_spans AS s (days, first_day, user_id, requests, tokens, cost)
    SELECT l.days, c.day - mod(c.day - '1970-01-01'::date, l.days) AS start, c.user_id,
      greatest(least(sum(c.requests), 9223372036854775807), -9223372036854775807)::bigint AS requests,
greatest(least(sum(c.tokens), 9223372036854775807), -9223372036854775807)::bigint AS tokens,
  sum(metering.finite(c.cost)) AS cost
    FROM (
        SELECT metering.day_of(c.quarter) AS day, c.user_id, greatest(least(sum(c.requests), 9223372036854775807),
          -9223372036854775807)::bigint AS requests,
greatest(least(sum(c.input_tokens) + sum(c.output_tokens), 9223372036854775807), -9223372036854775807)::bigint AS
  tokens,
sum(metering.finite(c.cost)) AS cost
        FROM cell c
        WHERE c.quarter < 1995448 AND c.user_id <> 0 AND NOT c.is_self_reported AND (SELECT is_complete FROM complete)
        GROUP BY 1, 2
    ) c CROSS JOIN unnest('{1,2,4,8,16,32,64,128,256}'::integer[]) AS l (days)
    WHERE l.days = 1 OR c.day - mod(c.day - '1970-01-01'::date, l.days) + l.days <= ('1970-01-01'::date +
      20785::integer)
    GROUP BY l.days, start, c.user_id
    ORDER BY l.days, start, c.user_id
    ON CONFLICT (days, first_day, user_id) DO UPDATE SET requests = greatest(least(s.requests::numeric +
      excluded.requests, 9223372036854775807), -9223372036854775807)::bigint,
tokens = greatest(least(s.tokens::numeric + excluded.tokens, 9223372036854775807), -9223372036854775807)::bigint, cost
  = s.cost + excluded.cost
)
, delta AS (
    INSERT INTO metering.quota_deltas (user_ids, days, tokens, requests, costs)
    SELECT array_agg(d.user_id), array_agg(d.day), array_agg(d.tokens), array_agg(d.requests), array_agg(d.cost)
    FROM (
        SELECT f.user_id, (f.occurred_at AT TIME ZONE 'UTC')::date AS day,
               least(sum(greatest(f.input_tokens, 0)::numeric + greatest(f.output_tokens, 0)),
                 9223372036854775807)::bigint
                   AS tokens, count(*) AS requests,
               coalesce(sum(f.cost), 0) AS cost
        FROM metering.log_facts(0::bigint, 5::bigint) f
        WHERE f.log_id > (SELECT counted_log_id FROM metering.installation) AND f.status <> 'rate_limited'
          AND (SELECT is_complete FROM complete)
        GROUP BY 1, 2
    ) d
    HAVING count(*) > 0
)
SELECT (SELECT is_complete FROM complete),
       (SELECT coalesce(sum(requests), 0)::bigint FROM cell WHERE user_id <> 0);

UPDATE metering.usage_cursor SET other_log_id = 5;

UPDATE metering.usage_cursor SET spans_through = ARRAY[event_log_id, other_log_id, days_before];

SELECT event_log_id, other_log_id, settled_log_id, days_before,
CASE WHEN isfinite(sealed_before) THEN metering.quarter_of(sealed_before) ELSE -2147483648 END,
CASE WHEN isfinite(logs_sealed_before) THEN metering.quarter_of(logs_sealed_before) ELSE -2147483648 END,
spans_through IS NOT DISTINCT FROM ARRAY[event_log_id, other_log_id, days_before] FROM metering.usage_cursor FOR
  UPDATE SKIP LOCKED;

INSERT INTO metering.usage_dimensions (model, provider, status, plan, is_self_reported)
SELECT f.model, f.provider, f.status, f.plan, f.is_self_reported FROM metering.event_facts(0::bigint, 5::bigint) f
EXCEPT
SELECT d.model, d.provider, d.status, d.plan, d.is_self_reported FROM metering.usage_dimensions d
ON CONFLICT DO NOTHING;

WITH cell AS MATERIALIZED (
    SELECT coalesce(f.user_id, 0) AS user_id, metering.quarter_of(f.occurred_at) AS quarter, d.dimension,
           f.is_self_reported, count(*) AS requests, count(*) - count(f.cost) AS unpriced,
greatest(least(sum(f.input_tokens), 9223372036854775807), -9223372036854775807)::bigint AS input_tokens,
  greatest(least(sum(f.output_tokens), 9223372036854775807), -9223372036854775807)::bigint AS output_tokens,
greatest(least(sum(f.cached_tokens), 9223372036854775807), -9223372036854775807)::bigint AS cached_tokens,
greatest(least(sum(f.reasoning_tokens), 9223372036854775807), -9223372036854775807)::bigint AS reasoning_tokens,
greatest(least(sum(coalesce(f.duration_ms, 0)), 9223372036854775807), -9223372036854775807)::bigint AS duration_ms,
coalesce(sum(f.cost), 0) AS cost, sum(f.ledger_cost) AS ledger_cost,
  coalesce(array_agg((metering.bucket_of(f.duration_ms) << 40) + 1) FILTER (WHERE f.duration_ms IS NOT NULL)
         || array_agg((metering.bucket_of(f.first_token_ms) + 2000 << 40) + 1)
            FILTER (WHERE f.first_token_ms IS NOT NULL), '{}') AS histogram
    FROM metering.event_facts(0::bigint, 5::bigint) f LEFT JOIN metering.usage_dimensions d
    ON d.model = f.model AND d.status = f.status
    AND d.provider IS NOT DISTINCT FROM f.provider AND d.plan IS NOT DISTINCT FROM f.plan
    AND d.is_self_reported = f.is_self_reported
    GROUP BY GROUPING SETS ((f.user_id, 2, 3, 4), (2, 3, 4))
    -- What users report themselves is not in the rollups of all users.
    HAVING GROUPING(f.user_id) = 0 OR NOT f.is_self_reported
), complete AS MATERIALIZED (
    SELECT NOT EXISTS (SELECT FROM cell WHERE dimension IS NULL) AS is_complete
), quarters AS (
    INSERT INTO metering.usage_quarters AS u (user_id, quarter, dimension, requests, unpriced, input_tokens,
      output_tokens, cached_tokens, reasoning_tokens, duration_ms, cost, ledger_cost, histogram)
    SELECT c.user_id, c.quarter, c.dimension, c.requests, c.unpriced, c.input_tokens, c.output_tokens,
      c.cached_tokens, c.reasoning_tokens, c.duration_ms, c.cost, c.ledger_cost, CASE WHEN cardinality(c.histogram) <=
        64 THEN c.histogram ELSE metering.merged(c.histogram) END
    FROM cell c
    WHERE (SELECT is_complete FROM complete)
    ORDER BY 1, 2, 3
    ON CONFLICT (user_id, quarter, dimension) DO UPDATE SET requests = greatest(least(u.requests::numeric +
      excluded.requests, 9223372036854775807), -9223372036854775807)::bigint, unpriced =
        greatest(least(u.unpriced::numeric + excluded.unpriced, 9223372036854775807), -9223372036854775807)::bigint,
          input_tokens = greatest(least(u.input_tokens::numeric + excluded.input_tokens, 9223372036854775807),
            -9223372036854775807)::bigint, output_tokens = greatest(least(u.output_tokens::numeric +
              excluded.output_tokens, 9223372036854775807), -9223372036854775807)::bigint, cached_tokens =
                greatest(least(u.cached_tokens::numeric + excluded.cached_tokens, 9223372036854775807),
                  -9223372036854775807)::bigint, reasoning_tokens = greatest(least(u.reasoning_tokens::numeric +
                    excluded.reasoning_tokens, 9223372036854775807), -9223372036854775807)::bigint, duration_ms =
                      greatest(least(u.duration_ms::numeric + excluded.duration_ms, 9223372036854775807),
                        -9223372036854775807)::bigint, cost = u.cost + excluded.cost, ledger_cost = u.ledger_cost +
                          excluded.ledger_cost, histogram = CASE WHEN cardinality(u.histogram || excluded.histogram)
                            <= 64 THEN u.histogram || excluded.histogram ELSE metering.merged(u.histogram ||
                              excluded.histogram) END
), days AS (
    INSERT INTO metering.usage_days AS u (user_id, day, dimension, requests, unpriced, input_tokens, output_tokens,
      cached_tokens, reasoning_tokens, duration_ms, cost, ledger_cost, histogram)
    SELECT c.user_id, c.day, c.dimension, c.requests, c.unpriced, c.input_tokens, c.output_tokens, c.cached_tokens,
      c.reasoning_tokens, c.duration_ms, c.cost, c.ledger_cost, CASE WHEN cardinality(c.histogram) <= 64 THEN
        c.histogram ELSE metering.merged(c.histogram) END
    FROM (
        SELECT c.user_id, metering.day_of(c.quarter) AS day, c.dimension, greatest(least(sum(c.requests),
          9223372036854775807), -9223372036854775807)::bigint AS requests, greatest(least(sum(c.unpriced),
            9223372036854775807), -9223372036854775807)::bigint AS unpriced, greatest(least(sum(c.input_tokens),
              9223372036854775807), -9223372036854775807)::bigint AS input_tokens,
                greatest(least(sum(c.output_tokens), 9223372036854775807), -9223372036854775807)::bigint AS
                  output_tokens, greatest(least(sum(c.cached_tokens), 9223372036854775807),
                    -9223372036854775807)::bigint AS cached_tokens, greatest(least(sum(c.reasoning_tokens),
                      9223372036854775807), -9223372036854775807)::bigint AS reasoning_tokens,
                        greatest(least(sum(c.duration_ms), 9223372036854775807), -9223372036854775807)::bigint AS
                          duration_ms, sum(metering.finite(c.cost)) AS cost, sum(metering.finite(c.ledger_cost)) AS
                            ledger_cost, coalesce(metering.joined(c.histogram), '{}') AS histogram
        FROM cell c
        WHERE c.quarter < 1995448 AND (SELECT is_complete FROM complete)
        GROUP BY 1, 2, 3
    ) c
    ORDER BY 1, 2, 3
    ON CONFLICT (user_id, day, dimension) DO UPDATE SET requests = greatest(least(u.requests::numeric +
      excluded.requests, 9223372036854775807), -9223372036854775807)::bigint, unpriced =
        greatest(least(u.unpriced::numeric + excluded.unpriced, 9223372036854775807), -9223372036854775807)::bigint,
          input_tokens = greatest(least(u.input_tokens::numeric + excluded.input_tokens, 9223372036854775807),
            -9223372036854775807)::bigint, output_tokens = greatest(least(u.output_tokens::numeric +
              excluded.output_tokens, 9223372036854775807), -9223372036854775807)::bigint, cached_tokens =
                greatest(least(u.cached_tokens::numeric + excluded.cached_tokens, 9223372036854775807),
                  -9223372036854775807)::bigint, reasoning_tokens = greatest(least(u.reasoning_tokens::numeric +
                    excluded.reasoning_tokens, 9223372036854775807), -9223372036854775807)::bigint, duration_ms =
                      greatest(least(u.duration_ms::numeric + excluded.duration_ms, 9223372036854775807),
                        -9223372036854775807)::bigint, cost = u.cost + excluded.cost, ledger_cost = u.ledger_cost +
                          excluded.ledger_cost, histogram = CASE WHEN cardinality(u.histogram || excluded.histogram)
                            <= 64 THEN u.histogram || excluded.histogram ELSE metering.merged(u.histogram ||
                              excluded.histogram) END
), spans AS (
    INSERT INTO metering.usage_spans AS s (days, first_day, user_id, requests, tokens, cost)
    SELECT l.days, c.day - mod(c.day - '1970-01-01'::date, l.days) AS start, c.user_id,
      greatest(least(sum(c.requests), 9223372036854775807), -9223372036854775807)::bigint AS requests,
greatest(least(sum(c.tokens), 9223372036854775807), -9223372036854775807)::bigint AS tokens,
  sum(metering.finite(c.cost)) AS cost
    FROM (
        SELECT metering.day_of(c.quarter) AS day, c.user_id, greatest(least(sum(c.requests), 9223372036854775807),
          -9223372036854775807)::bigint AS requests,
greatest(least(sum(c.input_tokens) + sum(c.output_tokens), 9223372036854775807), -9223372036854775807)::bigint AS
  tokens,
sum(metering.finite(c.cost)) AS cost
        FROM cell c
        WHERE c.quarter < 1995448 AND c.user_id <> 0 AND NOT c.is_self_reported AND (SELECT is_complete FROM complete)
        GROUP BY 1, 2
    ) c CROSS JOIN unnest('{1,2,4,8,16,32,64,128,256}'::integer[]) AS l (days)
    WHERE l.days = 1 OR c.day - mod(c.day - '1970-01-01'::date, l.days) + l.days <= ('1970-01-01'::date +
      20785::integer)
    GROUP BY l.days, start, c.user_id
    ORDER BY l.days, start, c.user_id
    ON CONFLICT (days, first_day, user_id) DO UPDATE SET requests = greatest(least(s.requests::numeric +
      excluded.requests, 9223372036854775807), -9223372036854775807)::bigint,
tokens = greatest(least(s.tokens::numeric + excluded.tokens, 9223372036854775807), -9223372036854775807)::bigint, cost
  = s.cost + excluded.cost
)

SELECT (SELECT is_complete FROM complete),
       (SELECT coalesce(sum(requests), 0)::bigint FROM cell WHERE user_id <> 0);

UPDATE metering.usage_cursor SET event_log_id = 5;

UPDATE metering.usage_cursor SET spans_through = ARRAY[event_log_id, other_log_id, days_before];

UPDATE metering.usage_cursor SET passed_at = ('epoch'::timestamptz + 1795907426362966::bigint * interval '1
  microsecond'), passed_rows = 12, pass_ms = 306;
