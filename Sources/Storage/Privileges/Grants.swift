/// The PostgreSQL roles of an installation. Each program has one, with only the rights that it needs.
package enum DatabaseRole: String, CaseIterable, Sendable {
    /// Owns the schema `metering`: `codexflow migrate` and `adopt`.
    case owner
    /// `webhook-api`
    case webhook
    /// `aggregation-worker`
    case worker
    /// `admin-api`. It stores calls that users report and replays quarantined events, so it has the rights of the
    /// webhook too.
    case admin
    /// The other commands of `codexflow`. They replay quarantined events, so it has the rights of the webhook too.
    case `operator`

    /// All roles except the owner, which has all rights.
    package static let services = allCases.filter { $0 != .owner }

    /// Its name in a cluster. Each installation has a prefix.
    package func name(prefix: String) -> String { "\(prefix)_\(rawValue)" }

    /// The roles whose rights it has.
    var parts: [DatabaseRole] { [.admin, .operator].contains(self) ? [self, .webhook] : [self] }
}

/// An object of the database and the rights of each role on it.
package struct Grant: Sendable, Hashable {
    /// A kind of object, named as in GRANT.
    package enum Kind: String, Sendable {
        case schema, table, sequence, function
    }

    /// A privilege, on the whole object or on some columns of it.
    package struct Right: Sendable, Hashable, CustomStringConvertible {
        /// The privilege, such as `SELECT`.
        package let privilege: String
        /// The columns; empty for the whole object.
        package var columns: [String] = []

        static let usage = Right(privilege: "USAGE")
        static let execute = Right(privilege: "EXECUTE")
        static let delete = Right(privilege: "DELETE")
        static func select(_ columns: String...) -> Right { Right(privilege: "SELECT", columns: columns) }
        static func insert(_ columns: String...) -> Right { Right(privilege: "INSERT", columns: columns) }
        static func update(_ columns: String...) -> Right { Right(privilege: "UPDATE", columns: columns) }

        /// The right as in GRANT, such as `SELECT (id)`.
        package var description: String {
            columns.isEmpty ? privilege : "\(privilege) (\(columns.joined(separator: ", ")))"
        }
    }

    /// The kind of the object.
    package let kind: Kind
    /// The name with its schema. A function has the full names of its parameters' types.
    package let name: String
    /// Whether it is a SECURITY DEFINER function, which does one thing that its callers may not do themselves.
    let actsAsOwner: Bool
    private let rights: [DatabaseRole: [Right]]

    init(_ kind: Kind, _ name: String, actsAsOwner: Bool = false, _ rights: [DatabaseRole: [Right]]) {
        self.kind = kind
        self.name = name
        self.actsAsOwner = actsAsOwner
        self.rights = rights
    }

    /// Whether it is in our own schema.
    package var isOurs: Bool { name == "metering" || name.hasPrefix("metering.") }

    /// The object as in GRANT, such as `TABLE public.users`.
    var object: String { "\(kind.rawValue.uppercased()) \(name)" }

    /// The rights of `role`, in a fixed order, each once.
    package func rights(of role: DatabaseRole) -> [Right] {
        let all = role.parts.flatMap { rights[$0] ?? [] }
        return all.indices.filter { all.firstIndex(of: all[$0]) == $0 }.map { all[$0] }
    }
}

extension Grant {
    /// Every object that our statements use. `codexflow grants`, the doctor's check and the roles of the tests are made
    /// from it. A test fails when the schema has an object that it does not name.
    ///
    /// `FOR KEY SHARE` needs UPDATE on at least one column (PostgreSQL, GRANT). For `users` that is `updated_at`, which
    /// decides nothing. Partitions are read through `events` and need no rights of their own.
    package static let table: [Grant] = laravels + ours + usage + api

    private static let laravels: [Grant] = [
        Grant(.schema, "public", allRoles(.usage)),
        Grant(
            .table, "public.users",
            [
                // All columns, because `metering.is_deleted` reads `deleted_at` as the owner once Laravel adds it.
                .owner: [.select()],
                .webhook: [
                    .select("id", "name", "email_verified_at", "api_key", "plan", "status"), .update("updated_at"),
                ],
                .worker: [.select("id", "plan")],
                .admin: [
                    .select(
                        "id", "name", "email", "email_verified_at", "password", "api_key", "plan", "status", "is_admin",
                        "created_at", "updated_at"),
                    .insert(
                        "name", "email", "password", "api_key", "plan", "status", "is_admin", "created_at", "updated_at"
                    ),
                    .update("name", "email", "api_key", "plan", "status", "is_admin", "updated_at"),
                ],
                .operator: [
                    .select(
                        "id", "name", "email", "email_verified_at", "api_key", "plan", "status", "is_admin",
                        "created_at", "updated_at"),
                    .insert("name", "email", "password", "api_key", "plan", "is_admin", "created_at", "updated_at"),
                    .update("email_verified_at", "api_key", "updated_at"),
                ],
            ]),
        // The last id identifies the database, and shows a sequence that is below the ids of its table.
        Grant(
            .sequence, "public.users_id_seq",
            [
                .owner: [.select()], .webhook: [.select()], .worker: [.select()], .admin: [.usage],
                .operator: [.usage],
            ]),
        // The first migration waits for Laravel's open transactions by LOCK TABLE … IN SHARE MODE, which needs UPDATE.
        // Only 'prune --api-logs-days' deletes rows. Ingest reads whether the rows of its events exist.
        Grant(
            .table, "public.api_logs",
            [
                .owner: [.select(), .update(), .delete],
                .webhook: [
                    .select(
                        "id", "user_id", "model", "input_tokens", "output_tokens", "total_cost", "response_time_ms",
                        "status", "created_at"), .insert(),
                ],
                .worker: [.select()], .admin: [.select()], .operator: [.select(), .delete],
            ]),
        Grant(
            .sequence, "public.api_logs_id_seq",
            [.owner: [.select()], .webhook: [.usage, .select()], .worker: [.select()]]),
        Grant(
            .table, "public.rate_limits",
            [.webhook: [.select(), .insert(), .update()], .admin: [.select()]]),
        Grant(.sequence, "public.rate_limits_id_seq", [.webhook: [.usage, .select()]]),
        // Sanctum's tokens. Only the time of the last use is ever changed.
        Grant(
            .table, "public.personal_access_tokens",
            [
                .admin: [
                    .select(), .delete,
                    .insert(
                        "tokenable_type", "tokenable_id", "name", "token", "abilities", "expires_at", "created_at",
                        "updated_at"),
                    .update("last_used_at", "updated_at"),
                ]
            ]),
        Grant(.sequence, "public.personal_access_tokens_id_seq", [.admin: [.usage, .select()]]),
        Grant(.table, "public.sessions", [.admin: [.select("id", "user_id", "payload", "last_activity")]]),
        Grant(.table, "public.models", [.admin: [.select(), .insert(), .update()]]),
        Grant(.sequence, "public.models_id_seq", [.admin: [.usage, .select()]]),
    ]

    /// What users and operators do over the JSON API.
    private static let api: [Grant] = [
        Grant(.table, "metering.favorite_models", [.admin: [.select(), .insert()]]),
        Grant(.table, "metering.limit_requests", [.admin: [.select(), .insert(), .update()]]),
        // Entries are never removed.
        Grant(.table, "metering.audit_log", [.admin: [.select(), .insert()], .operator: [.insert()]]),
    ]

    /// Rollups and the functions that make and read them. An operator who withdraws an event corrects them.
    private static let usage: [Grant] =
        rollups(
            dimension: "rollup_dimension", watermark: "rollup_watermark",
            horizons: [.select("commit_horizon", "next_horizon")],
            usage: ["rollup_15m", "rollup_day", "rollup_span"])
        // The names of version 20, as views for its programs (`migrations/0021_rollup_names.sql`).
        + rollups(
            dimension: "usage_dimensions", watermark: "usage_cursor",
            horizons: [.select("settled_log_id", "marked_log_id")],
            usage: ["usage_quarters", "usage_days", "usage_spans"])
        + [
            "quarter_of(timestamp with time zone)", "quarter_start(integer)", "day_of(integer)", "bucket_of(bigint)",
            "bucket_middle(bigint)", "merged(bigint[])", "joined(bigint[])", "event_facts(bigint, bigint)",
            "log_facts(bigint, bigint)", "plausible_cost(numeric)",
        ].map {
            Grant(
                .function, "metering.\($0)", [.worker: [.execute], .admin: [.execute], .operator: [.execute]])
        }
        + [
            Grant(.function, "metering.without(bigint[], bigint[])", [.operator: [.execute]]),
            Grant(.function, "metering.finite(numeric)", allRoles(.execute)),
        ]

    /// The tables of rollups, or their views. `horizons` are the rights of ingest on the watermark.
    private static func rollups(
        dimension: String, watermark: String, horizons: [Right], usage: [String]
    ) -> [Grant] {
        [
            Grant(
                .table, "metering.\(dimension)",
                [.worker: [.select(), .insert()], .admin: [.select()], .operator: [.select()]]),
            Grant(
                .table, "metering.\(watermark)",
                [
                    .webhook: horizons, .worker: [.select(), .update()], .admin: [.select()],
                    .operator: [.select(), .update("spans_through")],
                ]),
        ]
            + usage.map {
                Grant(
                    .table, "metering.\($0)",
                    [
                        .worker: [.select(), .insert(), .update(), .delete], .admin: [.select()],
                        .operator: [.select(), .insert(), .update(), .delete],
                    ])
            }
    }

    private static let ours: [Grant] = [
        Grant(.schema, "metering", allRoles(.usage)),
        Grant(.table, "metering.schema_migrations", allRoles(.select())),
        Grant(
            .table, "metering.installation",
            allRoles(.select()).merging([.webhook: [.select(), .update("highest_user_id", "highest_log_id")]]) { $1 }),
        Grant(.table, "metering.installation_state", allRoles(.select())),
        Grant(
            .table, "metering.api_keys",
            [
                .webhook: [.select(), .insert(), .update("valid_to")],
                .admin: [.select(), .insert(), .update("valid_to")],
            ]),
        Grant(.table, "metering.plan_limits", allRoles(.select()).merging([.admin: [.select(), .update()]]) { $1 }),
        Grant(
            .table, "metering.unverified_registrations",
            [.webhook: [.select()], .admin: [.select(), .insert()], .operator: [.select()]]),
        limits("metering.user_limits"),
        limits("metering.user_models"),
        Grant(
            .table, "metering.free_models",
            allRoles(.select()).merging([.admin: [.select(), .insert(), .update(), .delete]]) { $1 }),
        Grant(
            .table, "metering.quota_usage",
            [
                .webhook: [.select(), .insert(), .update()], .worker: [.select(), .insert(), .update()],
                .admin: [.select()],
            ]),
        // Deltas are taken FOR UPDATE and deleted.
        Grant(
            .table, "metering.quota_deltas",
            [
                .webhook: [.select(), .insert(), .update(), .delete], .worker: [.select(), .insert()],
                .admin: [.select()],
            ]),
        Grant(
            .table, "metering.events",
            [
                .webhook: [.select(), .insert()], .worker: [.select()], .admin: [.select()],
                .operator: [.delete],
            ]),
        // Ingest reads whether an event was withdrawn. A withdrawal is never undone.
        Grant(
            .table, "metering.withdrawn_events", [.webhook: [.select()], .operator: [.insert()]]),
        Grant(.function, "metering.withdrawn(uuid[])", [.webhook: [.execute]]),
        Grant(.function, "metering.require_final(uuid[], boolean)", [.webhook: [.execute]]),
        Grant(.table, "metering.id_epochs", allRoles(.select())),
        Grant(.table, "metering.id_segments", [.admin: [.select()], .operator: [.select()]]),
        Grant(.function, "metering.enter_id_line()", [.webhook: [.execute]]),
        Grant(.function, "metering.ids_began_again()", actsAsOwner: true, allRoles(.execute)),
        Grant(.function, "metering.begin_id_epoch()", actsAsOwner: true, allRoles(.execute)),
        Grant(.function, "metering.last_position()", [:]),
        Grant(
            .function,
            """
            metering.is_row_of_event(bigint, timestamp without time zone, text, bigint, bigint, text, bigint, \
            timestamp with time zone, text, bigint, bigint, text)
            """, [.admin: [.execute]]),
        Grant(
            .function, "metering.id_ranges(bigint, bigint)", actsAsOwner: true,
            [.worker: [.execute], .admin: [.execute], .operator: [.execute]]),
        Grant(
            .function, "metering.log_position(bigint)", actsAsOwner: true,
            [.owner: [.execute], .worker: [.execute], .admin: [.execute], .operator: [.execute]]),
        // The doctor counts the events in the default partition.
        Grant(.table, "metering.events_default", [.operator: [.select()]]),
        Grant(.table, "metering.events_named", [:]),
        Grant(
            .table, "metering.quarantine",
            [.webhook: [.select(), .insert(), .update()], .worker: [.select()], .admin: [.select()]]),
        Grant(
            .table, "metering.denied_calls",
            [.webhook: [.select(), .insert(), .update()], .admin: [.select()]]),
        Grant(
            .table, "metering.spools",
            [.webhook: [.select(), .insert(), .update()], .admin: [.select()], .operator: [.select()]]),
        // An arrival is inserted with its key and removed when no entry waits for it any more.
        Grant(
            .table, "metering.key_arrivals",
            [.webhook: [.select(), .insert(), .update(), .delete], .admin: [.insert()]]),
        Grant(
            .function, "metering.is_deleted(bigint)", actsAsOwner: true,
            [.webhook: [.execute], .admin: [.execute], .operator: [.execute]]),
        Grant(
            .function, "metering.deleted_users()", actsAsOwner: true,
            [.admin: [.execute], .operator: [.execute]]),
        Grant(.function, "metering.key_holder(bytea[], timestamp with time zone)", [.webhook: [.execute]]),
        Grant(.function, "metering.create_events_partition(date)", actsAsOwner: true, [.worker: [.execute]]),
        Grant(
            .function, "metering.event_key_floor(timestamp with time zone)",
            [.worker: [.execute], .admin: [.execute], .operator: [.execute]]),
    ]

    /// What operators and administrators set for one user.
    private static func limits(_ table: String) -> Grant {
        let all: [Right] = [.select(), .insert(), .update(), .delete]
        return Grant(.table, table, allRoles(.select()).merging([.operator: all, .admin: all]) { $1 })
    }

    private static func allRoles(_ right: Right) -> [DatabaseRole: [Right]] {
        Dictionary(uniqueKeysWithValues: DatabaseRole.allCases.map { ($0, [right]) })
    }
}
