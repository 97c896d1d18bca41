import Postgres
import TestSupport

/// Functions, operators and types that another writer of the database puts into `public` under the names of
/// `pg_catalog`.
///
/// Each has the arguments of one of PostgreSQL's own, or arguments that fit our columns better: PostgreSQL prefers
/// `public.lower(varchar)` to `pg_catalog.lower(text)` wherever both schemas are in the search path, in whichever
/// order. One that runs leaves its number in a sequence, which no rollback takes back, and raises an error.
struct PlantedObjects {
    let database: TestDatabase

    /// Plants them as the role `planter`, which may only create in `public`.
    init(in database: TestDatabase) async throws {
        self.database = database
        try await database.pool.withConnection { connection in
            try connection.executeScript(Self.script)
        }
    }

    /// How many there are.
    var count: Int {
        get async throws { try await database.number("SELECT count(*) FROM public.planted") }
    }

    /// The last one that ran, such as `lower(character varying)`; `nil` where none has.
    var lastRun: String? {
        get async throws {
            try await database.text(
                """
                SELECT p.what FROM public.planted_run r JOIN public.planted p ON p.number = r.last_value
                WHERE r.is_called
                """)
        }
    }

    private static let script = """
        DO $$ BEGIN CREATE ROLE planter; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
        GRANT USAGE, CREATE ON SCHEMA public TO PUBLIC;
        SET ROLE planter;
        SET search_path = pg_catalog;
        CREATE SEQUENCE public.planted_run;
        CREATE TABLE public.planted (number bigint PRIMARY KEY, what text NOT NULL);
        -- As the planter, so that roles without any right leave the number.
        CREATE FUNCTION public.planted_alarm(number bigint) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS
            'BEGIN PERFORM pg_catalog.setval(''public.planted_run'', number); END';
        CREATE FUNCTION pg_temp.plant(kind text, name text, arguments oid[], result oid) RETURNS void
        LANGUAGE plpgsql AS $$
        DECLARE
            number bigint := nextval('pg_temp.planted_numbers');
            types text[] := ARRAY(SELECT format_type(a.type, NULL) FROM unnest(arguments)
                                  WITH ORDINALITY a (type, place)
                                  ORDER BY a.place);
            target text := CASE kind WHEN 'f' THEN quote_ident(name) ELSE 'planted_' || number END;
        BEGIN
            EXECUTE format(
                'CREATE FUNCTION public.%s(%s) RETURNS %s LANGUAGE plpgsql AS %L', target, array_to_string(types, ', '),
                CASE WHEN (SELECT typtype FROM pg_type WHERE oid = result) = 'p' THEN 'text'
                     ELSE format_type(result, NULL) END,
                format('BEGIN PERFORM public.planted_alarm(%s); RAISE EXCEPTION ''planted''; END', number));
            IF kind = 'o' THEN
                EXECUTE format('CREATE OPERATOR public.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = public.%s)',
                               name, types[1], types[2], target);
            END IF;
            INSERT INTO public.planted VALUES (number, format('%s(%s)', name, array_to_string(types, ', ')));
        EXCEPTION WHEN OTHERS THEN NULL;
        END
        $$;
        CREATE SEQUENCE pg_temp.planted_numbers;
        -- What each type becomes, so that a call fits better: the arguments as they are, all of a type, the first, the
        -- rest.
        WITH better (former, latter) AS (
            VALUES ('text', 'varchar'), ('text', 'text[]'), ('int8', 'int4'), ('int4', 'int8'), ('int4', 'int2'),
                   ('numeric', 'int8'), ('numeric', 'int4'), ('float8', 'numeric'), ('float8', 'int8'),
                   ('float8', 'int4'),
                   ('timestamptz', 'timestamp'), ('timestamptz', 'date'), ('timestamp', 'date'),
                   ('timestamptz', 'text'),
                   ('anyelement', 'text'), ('anyelement', 'varchar'), ('anyelement', 'int8'), ('anyarray', 'int8[]'),
                   ('anyarray', 'text[]'), ('anyarray', 'bytea[]'), ('anynonarray', 'text'), ('anynonarray', 'int8'),
                   ('anynonarray', 'varchar'), ('"any"', 'text'), ('"any"', 'varchar'), ('"any"', 'int8'),
                   ('"any"', 'date'),
                   ('anycompatible', 'int8'), ('anycompatible', 'text'), ('anycompatiblearray', 'int8[]'),
                   ('anycompatiblearray', 'bytea[]'), ('bytea', 'text'), ('json', 'jsonb'), ('name', 'text')
        ), ours AS (
            SELECT 'f' AS kind, p.proname::text AS name, p.proargtypes::oid[] AS arguments, p.prorettype AS result
            FROM pg_proc p WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind IN ('f', 'a', 'w')
            UNION ALL
            SELECT 'o', o.oprname, ARRAY[o.oprleft, o.oprright], o.oprresult
            FROM pg_operator o WHERE o.oprnamespace = 'pg_catalog'::regnamespace AND o.oprkind = 'b'
        ), variants AS (
            SELECT o.kind, o.name, o.result, o.arguments FROM ours o
            UNION
            SELECT o.kind, o.name, o.result, ARRAY(
                       SELECT CASE WHEN a.type = b.former::regtype
                                        AND (w.which = 'all' OR (w.which = 'first') = (a.place = 1))
                                   THEN b.latter::regtype::oid ELSE a.type END
                       FROM unnest(o.arguments) WITH ORDINALITY a (type, place) ORDER BY a.place)
            FROM ours o JOIN better b ON b.former::regtype = ANY(o.arguments)
            CROSS JOIN (VALUES ('all'), ('first'), ('rest')) w (which)
        )
        SELECT count(pg_temp.plant(v.kind, v.name, v.arguments, v.result)) FROM variants v
        WHERE NOT EXISTS (
            SELECT FROM unnest(v.arguments) a (type) JOIN pg_type t ON t.oid = a.type WHERE t.typtype = 'p');
        DO $$
        DECLARE
            name text;
        BEGIN
            FOREACH name IN ARRAY
                ARRAY['text', 'uuid', 'bytea', 'date', 'int8', 'jsonb', 'regclass', 'timestamptz'] LOOP
                EXECUTE format(
                    'CREATE DOMAIN public.%I AS pg_catalog.%I CHECK (public.planted_alarm(0) IS NULL)', name, name);
            END LOOP;
        END
        $$;
        INSERT INTO public.planted VALUES (0, 'a type');
        RESET ROLE;
        """
}
