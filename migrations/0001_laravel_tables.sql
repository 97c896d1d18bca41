-- The tables of the Laravel application, exactly as its own eight migrations make them (laravel.md section 2), for a database
-- on which Laravel has never run. Where a users table exists the application owns the schema, and this file changes nothing.
-- Laravel's migration names are recorded, so that a later `php artisan migrate` finds nothing to do.
DO $laravel$
BEGIN
    IF to_regclass('public.users') IS NOT NULL OR to_regclass('public.migrations') IS NOT NULL THEN
        RETURN;
    END IF;

    CREATE TABLE public.migrations (
        id serial PRIMARY KEY,
        migration varchar(255) NOT NULL,
        batch integer NOT NULL
    );

    CREATE TABLE public.users (
        id bigserial PRIMARY KEY,
        name varchar(255) NOT NULL,
        email varchar(255) NOT NULL,
        email_verified_at timestamp(0),
        password varchar(255) NOT NULL,
        api_key varchar(255),
        plan varchar(255) NOT NULL DEFAULT 'starter',
        status varchar(255) NOT NULL DEFAULT 'active',
        remember_token varchar(100),
        created_at timestamp(0),
        updated_at timestamp(0),
        is_admin boolean NOT NULL DEFAULT false,
        CONSTRAINT users_plan_check CHECK (plan IN ('starter', 'pro', 'agency')),
        CONSTRAINT users_status_check CHECK (status IN ('active', 'suspended')),
        CONSTRAINT users_email_unique UNIQUE (email),
        CONSTRAINT users_api_key_unique UNIQUE (api_key)
    );
    CREATE TABLE public.password_reset_tokens (
        email varchar(255) PRIMARY KEY,
        token varchar(255) NOT NULL,
        created_at timestamp(0)
    );
    CREATE TABLE public.sessions (
        id varchar(255) PRIMARY KEY,
        user_id bigint,
        ip_address varchar(45),
        user_agent text,
        payload text NOT NULL,
        last_activity integer NOT NULL
    );
    CREATE INDEX sessions_user_id_index ON public.sessions (user_id);
    CREATE INDEX sessions_last_activity_index ON public.sessions (last_activity);

    CREATE TABLE public.cache (
        key varchar(255) PRIMARY KEY,
        value text NOT NULL,
        expiration integer NOT NULL
    );
    CREATE TABLE public.cache_locks (
        key varchar(255) PRIMARY KEY,
        owner varchar(255) NOT NULL,
        expiration integer NOT NULL
    );

    CREATE TABLE public.jobs (
        id bigserial PRIMARY KEY,
        queue varchar(255) NOT NULL,
        payload text NOT NULL,
        attempts smallint NOT NULL,
        reserved_at integer,
        available_at integer NOT NULL,
        created_at integer NOT NULL
    );
    CREATE INDEX jobs_queue_index ON public.jobs (queue);
    CREATE TABLE public.job_batches (
        id varchar(255) PRIMARY KEY,
        name varchar(255) NOT NULL,
        total_jobs integer NOT NULL,
        pending_jobs integer NOT NULL,
        failed_jobs integer NOT NULL,
        failed_job_ids text NOT NULL,
        options text,
        cancelled_at integer,
        created_at integer NOT NULL,
        finished_at integer
    );
    CREATE TABLE public.failed_jobs (
        id bigserial PRIMARY KEY,
        uuid varchar(255) NOT NULL,
        connection text NOT NULL,
        queue text NOT NULL,
        payload text NOT NULL,
        exception text NOT NULL,
        failed_at timestamp(0) NOT NULL DEFAULT CURRENT_TIMESTAMP,
        CONSTRAINT failed_jobs_uuid_unique UNIQUE (uuid)
    );

    CREATE TABLE public.api_logs (
        id bigserial PRIMARY KEY,
        user_id bigint NOT NULL,
        model varchar(255) NOT NULL,
        input_tokens integer NOT NULL,
        output_tokens integer NOT NULL,
        total_cost numeric(10, 6) NOT NULL,
        response_time_ms integer NOT NULL,
        status varchar(255) NOT NULL DEFAULT 'success',
        error_message text,
        created_at timestamp(0),
        updated_at timestamp(0),
        CONSTRAINT api_logs_status_check CHECK (status IN ('success', 'error', 'rate_limited')),
        CONSTRAINT api_logs_user_id_foreign FOREIGN KEY (user_id) REFERENCES public.users (id) ON DELETE CASCADE
    );
    CREATE INDEX api_logs_user_id_created_at_index ON public.api_logs (user_id, created_at);

    CREATE TABLE public.models (
        id bigserial PRIMARY KEY,
        name varchar(255) NOT NULL,
        model_id varchar(255) NOT NULL,
        cost_per_1k_tokens numeric(10, 6) NOT NULL,
        availability boolean NOT NULL DEFAULT true,
        description text,
        created_at timestamp(0),
        updated_at timestamp(0)
    );

    CREATE TABLE public.rate_limits (
        id bigserial PRIMARY KEY,
        user_id bigint NOT NULL,
        period varchar(255) NOT NULL,
        limit_tokens integer NOT NULL,
        used_tokens integer NOT NULL DEFAULT 0,
        limit_requests integer NOT NULL,
        used_requests integer NOT NULL DEFAULT 0,
        reset_at timestamp(0) NOT NULL,
        created_at timestamp(0),
        updated_at timestamp(0),
        CONSTRAINT rate_limits_period_check CHECK (period IN ('daily', 'monthly')),
        CONSTRAINT rate_limits_user_id_foreign FOREIGN KEY (user_id) REFERENCES public.users (id) ON DELETE CASCADE,
        CONSTRAINT rate_limits_user_id_period_unique UNIQUE (user_id, period)
    );

    CREATE TABLE public.personal_access_tokens (
        id bigserial PRIMARY KEY,
        tokenable_type varchar(255) NOT NULL,
        tokenable_id bigint NOT NULL,
        name text NOT NULL,
        token varchar(64) NOT NULL,
        abilities text,
        last_used_at timestamp(0),
        expires_at timestamp(0),
        created_at timestamp(0),
        updated_at timestamp(0),
        CONSTRAINT personal_access_tokens_token_unique UNIQUE (token)
    );
    CREATE INDEX personal_access_tokens_tokenable_type_tokenable_id_index
        ON public.personal_access_tokens (tokenable_type, tokenable_id);
    CREATE INDEX personal_access_tokens_expires_at_index ON public.personal_access_tokens (expires_at);

    INSERT INTO public.migrations (migration, batch) VALUES
        ('0001_01_01_000000_create_users_table', 1),
        ('0001_01_01_000001_create_cache_table', 1),
        ('0001_01_01_000002_create_jobs_table', 1),
        ('2025_12_27_125552_create_api_logs_table', 1),
        ('2025_12_27_125553_create_models_table', 1),
        ('2025_12_27_125555_create_rate_limits_table', 1),
        ('2025_12_27_125837_create_personal_access_tokens_table', 1),
        ('2025_12_27_135917_add_is_admin_to_users_table', 1);
END
$laravel$;
