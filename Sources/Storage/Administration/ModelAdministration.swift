package import Domain
package import Postgres

/// Laravel's list of models and their prices, and the models whose cost of zero is a price.
package struct ModelAdministration: Sendable {
    /// A model as Laravel lists it.
    package struct Model: Sendable, Hashable {
        package var name: String
        /// What clients ask for, such as `gpt-4`.
        package var modelID: String
        /// USD with at most 6 decimals, less than 10,000.
        package var costPer1kTokens: Cost
        package var isAvailable: Bool
        package var description: String?

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
                VALUES (\(model.name), \(model.modelID), \(model.costPer1kTokens.laravelUSD)::numeric, \(model.isAvailable),
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
                    cost_per_1k_tokens = \(model.costPer1kTokens.laravelUSD)::numeric, availability = \(model.isAvailable),
                    description = \(model.description as String?), updated_at = date_trunc('second', \(now) AT TIME ZONE 'UTC')
                WHERE id = \(id)
                """)
            guard changed == 1 else { throw AppError(.notFound, "There is no model with this id.") }
        }
    }

    /// The models whose cost of zero is a price, in the order of their names.
    package static func freeModels(_ connection: Connection) throws -> [String] {
        try connection.query("SELECT model FROM metering.free_models ORDER BY model").map { try $0.decode(0) }
    }

    /// From now on a cost of zero is this model's price, or (`false`) a missing one. Events that are stored stay as they are.
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
