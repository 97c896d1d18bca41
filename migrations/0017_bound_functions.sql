-- A function resolves the names in a body that is text when it is called, by the search path of the caller. Whoever may create
-- in a schema of that path chooses what runs there: public.lower(varchar) fits a varchar better than pg_catalog.lower(text),
-- in whichever order the two schemas stand. After this migration no function of ours depends on the path:
--
-- - SQL functions get a body of the SQL standard, whose names are bound now, while the path is this migration's.
-- - log_facts reads a table of Laravel's. A bound body would make DROP TABLE api_logs CASCADE, which is what migrate:fresh
--   does, drop the function too; a search_path of its own would keep PostgreSQL from writing it out in the statement, and each
--   report would read the whole table. So its text names the schema of each operator and type instead.
-- - plpgsql functions get a search_path of their own.

SET LOCAL search_path = pg_catalog, pg_temp;

CREATE OR REPLACE FUNCTION metering.log_facts(after bigint, through bigint)
RETURNS TABLE (log_id bigint, event_key uuid, written_at timestamp, user_id bigint, occurred_at timestamptz,
               model text, provider text, status text, plan text,
               input_tokens bigint, output_tokens bigint, cached_tokens bigint, reasoning_tokens bigint,
               duration_ms bigint, first_token_ms bigint, cost numeric, ledger_cost numeric)
LANGUAGE sql STABLE AS $$
    SELECT l.id, NULL::pg_catalog.uuid, l.created_at, l.user_id,
           CASE WHEN l.created_at OPERATOR(pg_catalog.>=) '1970-01-01'::timestamp
                     AND l.created_at OPERATOR(pg_catalog.<) '9999-01-01'::timestamp
                THEN l.created_at AT TIME ZONE 'UTC' ELSE 'epoch'::pg_catalog.timestamptz END,
           l.model::pg_catalog.text, NULL::pg_catalog.text, l.status::pg_catalog.text, NULL::pg_catalog.text,
           l.input_tokens::bigint, l.output_tokens::bigint, 0::bigint, 0::bigint, l.response_time_ms::bigint, NULL::bigint,
           l.total_cost::numeric, l.total_cost::numeric
    FROM public.api_logs l
    WHERE l.id OPERATOR(pg_catalog.>) after AND l.id OPERATOR(pg_catalog.<=) through
      AND NOT EXISTS (
          SELECT FROM metering.events e
          WHERE e.api_log_id OPERATOR(pg_catalog.=) l.id AND e.api_log_id OPERATOR(pg_catalog.>) after
            AND e.api_log_id OPERATOR(pg_catalog.<=) through)
$$;

DO $do$
DECLARE
    item record;
BEGIN
    FOR item IN
        SELECT p.oid::regprocedure::text AS name, pg_get_functiondef(p.oid) AS definition, p.prosrc AS body, l.lanname AS language
        FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
        WHERE p.pronamespace = 'metering'::regnamespace AND p.prokind = 'f' AND p.prosqlbody IS NULL
          AND p.proname <> 'log_facts'
    LOOP
        IF item.language = 'sql' THEN
            -- What comes before the text stays: arguments, result, volatility.
            EXECUTE substr(item.definition, 1, strpos(item.definition, 'AS $function$') - 1)
                    || 'BEGIN ATOMIC ' || item.body || '; END';
        ELSE
            EXECUTE format('ALTER FUNCTION %s SET search_path = pg_catalog, pg_temp', item.name);
        END IF;
    END LOOP;
END
$do$;
