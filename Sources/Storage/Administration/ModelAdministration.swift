package import Domain
package import Postgres

/// A language model of Laravel's list, with its price.
package struct LanguageModel: Sendable, Hashable {
    /// Laravel's id of the model.
    package let id: Int64
    /// The name for readers, such as `GPT-4`.
    package let name: String
    /// The name by which clients ask the proxy for it.
    package let modelID: String
    /// The price of 1,000 tokens in USD, with 6 decimals.
    package let cost: String
    /// Whether Laravel offers it.
    package let isAvailable: Bool
    /// A text for readers.
    package let description: String?
    /// The time at which it was added.
    package let createdAt: Timestamp?
    /// The time of its last change.
    package let updatedAt: Timestamp?
    /// Whether it is a favourite of the user who asks.
    package let isFavorite: Bool
}

extension LanguageModel {
    /// The models ordered by the bytes of their names, like Laravel's answer.
    ///
    /// - Throws: ``PostgresError``.
    package static func list(
        for user: Int64, onlyAvailable: Bool = true, _ connection: Connection
    ) throws -> [LanguageModel] {
        let condition: Query = onlyAvailable ? "m.availability" : "true"
        let rows = try connection.query(
            """
            SELECT m.id, m.name, m.model_id, m.cost_per_1k_tokens::text, m.availability, m.description,
                   \(microseconds: "(m.created_at AT TIME ZONE 'UTC')"),
                   \(microseconds: "(m.updated_at AT TIME ZONE 'UTC')"),
                   f.model_id IS NOT NULL
            FROM public.models m
            LEFT JOIN metering.favorite_models f ON f.model_id = m.id AND f.user_id = \(user)
            WHERE \(condition)
            ORDER BY m.name COLLATE "C", m.id
            """)
        return try rows.map { row in
            let (id, name, modelID, cost, isAvailable, description, created, updated, isFavorite) = try row.decode(
                Int64.self, String.self, String.self, String.self, Bool.self, String?.self, Int64?.self, Int64?.self,
                Bool.self)
            return LanguageModel(
                id: id, name: name, modelID: modelID, cost: cost, isAvailable: isAvailable, description: description,
                createdAt: created.map(Timestamp.init(microseconds:)),
                updatedAt: updated.map(Timestamp.init(microseconds:)), isFavorite: isFavorite)
        }
    }

    /// Makes the model `id` a favourite of the user. Returns false where there is no such model.
    ///
    /// - Throws: ``PostgresError``.
    package static func favor(_ id: Int64, by user: Int64, _ connection: Connection, now: Timestamp) throws -> Bool {
        let rows = try connection.query(
            """
            WITH model AS (
                SELECT id FROM public.models WHERE id = \(id)
            ), favored AS (
                INSERT INTO metering.favorite_models (user_id, model_id, favored_at)
                SELECT \(user), id, \(now) FROM model
                ON CONFLICT DO NOTHING
            )
            SELECT count(*) FROM model
            """)
        return try rows[0].decode(0, as: Int.self) == 1
    }
}

/// Laravel's list of models and their prices, and the models whose cost of zero is a price.
package struct ModelAdministration: Sendable {
    /// A model as Laravel lists it.
    package struct Model: Sendable, Hashable {
        /// The name for readers, such as `GPT-4`.
        package var name: String
        /// The name by which clients ask for it, such as `gpt-4`.
        package var modelID: String
        /// The price of 1,000 tokens in USD, with at most 6 decimals, less than 10,000.
        package var costPer1kTokens: Cost
        /// Whether Laravel offers it.
        package var isAvailable: Bool
        /// A text for readers.
        package var description: String?

        /// A model with these values.
        package init(
            name: String, modelID: String, costPer1kTokens: Cost, isAvailable: Bool, description: String? = nil
        ) {
            self.name = name
            self.modelID = modelID
            self.costPer1kTokens = costPer1kTokens
            self.isAvailable = isAvailable
            self.description = description
        }
    }

    private let actor: AuditActor
    private let now: Timestamp

    /// Changes that `actor` makes at `now`.
    package init(by actor: AuditActor, at now: Timestamp) {
        self.actor = actor
        self.now = now
    }

    /// Adds a model to Laravel's list and returns its id.
    ///
    /// - Throws: ``AppError`` `.invalid` for values that Laravel's table does not take.
    package func create(_ model: Model, _ connection: Connection) throws -> Int64 {
        try Self.requireStorable(model)
        return try connection.transaction { connection in
            let id = try connection.query(
                """
                INSERT INTO public.models (name, model_id, cost_per_1k_tokens, availability, description, created_at,
                                           updated_at)
                VALUES (\(model.name), \(model.modelID), \(model.costPer1kTokens.laravelUSD)::numeric,
                    \(model.isAvailable),
                        \(model.description as String?), date_trunc('second', \(now) AT TIME ZONE 'UTC'),
                        date_trunc('second', \(now) AT TIME ZONE 'UTC'))
                RETURNING id
                """)[0].decode(0, as: Int64.self)
            try AuditLog.record(.model(id), "model.create", before: nil, by: actor, at: now, connection)
            return id
        }
    }

    /// Changes a model of Laravel's list.
    ///
    /// - Throws: ``AppError`` `.notFound`; `.invalid` for values that Laravel's table does not take.
    package func update(_ id: Int64, _ model: Model, _ connection: Connection) throws {
        try Self.requireStorable(model)
        try AuditLog.changing(.model(id), "model.update", by: actor, at: now, connection) { connection in
            let changed = try connection.execute(
                """
                UPDATE public.models SET name = \(model.name), model_id = \(model.modelID),
                    cost_per_1k_tokens = \(model.costPer1kTokens.laravelUSD)::numeric,
                    availability = \(model.isAvailable),
                    description = \(model.description as String?),
                    updated_at = date_trunc('second', \(now) AT TIME ZONE 'UTC')
                WHERE id = \(id)
                """)
            guard changed == 1 else { throw AppError(.notFound, "There is no model with this id.") }
        }
    }

    /// The models whose cost of zero is a price, in the order of their names.
    ///
    /// - Throws: ``PostgresError``.
    package static func freeModels(_ connection: Connection) throws -> [String] {
        try connection.query("SELECT model FROM metering.free_models ORDER BY model").map { try $0.decode(0) }
    }

    /// Decides whether a cost of zero is this model's price, or a missing price (`false`). Stored events stay as they
    /// are.
    ///
    /// - Throws: ``AppError`` `.invalid` for a name that no event can have.
    package func setFree(_ model: String, _ isFree: Bool, _ connection: Connection) throws {
        guard !model.isEmpty, model.unicodeScalars.count <= 255, !model.utf8.contains(0) else {
            throw AppError(.invalid, "A model's name has 1 to 255 characters.")
        }
        try AuditLog.changing(.freeModel(model), "model.free", by: actor, at: now, connection) { connection in
            try connection.execute(
                isFree
                    ? "INSERT INTO metering.free_models (model) VALUES (\(model)) ON CONFLICT DO NOTHING"
                    : "DELETE FROM metering.free_models WHERE model = \(model)")
        }
    }

    private static func requireStorable(_ model: Model) throws {
        let texts = [model.name, model.modelID]
        guard texts.allSatisfy({ !$0.isEmpty && $0.unicodeScalars.count <= 255 }), !model.costPer1kTokens.isSaturated,
            (texts + [model.description ?? ""]).allSatisfy({ !$0.utf8.contains(0) })
        else {
            throw AppError(
                .invalid, "A model's name and id have 1 to 255 characters, and its cost is less than 10000 USD.")
        }
    }
}
