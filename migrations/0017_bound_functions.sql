-- A function resolves the names in a body that is text when it is called, by the search path of the caller. A role
-- that may create in a schema of that path chooses what runs there: public.lower(varchar) fits a varchar better than
-- pg_catalog.lower(text), in whichever order the two schemas stand. After this migration no function of ours depends on
-- the path of its caller:
--
-- - SQL functions get a body of the SQL standard, whose names are bound now, while the path is this migration's.
-- - log_facts reads a table of Laravel's. A bound body would make DROP TABLE api_logs CASCADE, which is what
--   migrate:fresh does, drop the function too; a search_path of its own would keep PostgreSQL from writing it out in
--   the statement, and each report would read the whole table. So its text names the schema of each operator and type
--   instead.
-- - plpgsql functions get a search_path of their own.

SET LOCAL search_path = pg_catalog, pg_temp;

DO $do$
DECLARE
    item record;
    head text;
    body text;
BEGIN
    FOR item IN
        SELECT p.oid::regprocedure::text AS name, pg_get_functiondef(p.oid) AS definition, p.prosrc AS body,
               l.lanname AS language
        FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
        WHERE p.pronamespace = 'metering'::regnamespace AND p.prokind = 'f' AND p.prosqlbody IS NULL
    LOOP
        -- What comes before the text stays: arguments, result, volatility.
        head := substr(item.definition, 1, strpos(item.definition, 'AS $function$') - 1);
        IF item.language <> 'sql' THEN
            EXECUTE format('ALTER FUNCTION %s SET search_path = pg_catalog, pg_temp', item.name);
        ELSIF item.body ~ '\mpublic\.' THEN
            body := regexp_replace(item.body, ' (>=|<=|<>|<|>|=) ', ' OPERATOR(pg_catalog.\1) ', 'g');
            body := regexp_replace(body, '::(text|uuid|timestamptz)\M', '::pg_catalog.\1', 'g');
            EXECUTE head || format('AS %L', body);
        ELSE
            EXECUTE head || 'BEGIN ATOMIC ' || item.body || '; END';
        END IF;
    END LOOP;
END
$do$;
