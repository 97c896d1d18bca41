-- Laravel's soft deletes: a user with users.deleted_at is gone for whoever asks, and the row stays for what it used. The
-- column may be added or dropped at any time. PostgreSQL looks for the name `deleted_at` in users first, and in `absent`
-- where users has none; it looks again when the table was changed. As their owner the functions read the column, so that
-- no service needs a right on it.

-- Whether a user is soft-deleted. Everything that decides what a user may do asks this.
CREATE FUNCTION metering.is_deleted(bigint) RETURNS boolean LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN EXISTS (
        SELECT FROM (VALUES (NULL::timestamp)) AS absent (deleted_at)
        CROSS JOIN LATERAL (SELECT deleted_at AS moment FROM public.users u WHERE u.id = $1) d
        WHERE d.moment IS NOT NULL);
END
$$;

-- All who are, for counts.
CREATE FUNCTION metering.deleted_users() RETURNS SETOF bigint LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY
        SELECT d.id FROM (VALUES (NULL::timestamp)) AS absent (deleted_at)
        CROSS JOIN LATERAL (SELECT u.id, deleted_at AS moment FROM public.users u) d
        WHERE d.moment IS NOT NULL;
END
$$;
