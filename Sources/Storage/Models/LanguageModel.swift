package import Domain
package import Postgres

/// A language model of Laravel's list, with its price.
package struct LanguageModel: Sendable, Hashable {
    package let id: Int64
    package let name: String
    /// What a client asks the proxy for.
    package let modelID: String
    /// USD for 1,000 tokens, 6 decimals.
    package let cost: String
    package let isAvailable: Bool
    package let description: String?
    package let createdAt: Timestamp?
    package let updatedAt: Timestamp?
    /// Whether the user who asks favours it.
    package let isFavorite: Bool
}

extension LanguageModel {
    /// The models in the order of their names by bytes, as Laravel's database collates them.
    package static func list(
        for user: Int64, onlyAvailable: Bool = true, _ connection: Connection
    ) throws -> [LanguageModel] {
        let condition: Query = onlyAvailable ? "m.availability" : "true"
        let rows = try connection.query(
            """
            SELECT m.id, m.name, m.model_id, m.cost_per_1k_tokens::text, m.availability, m.description,
                   \(microseconds: "(m.created_at AT TIME ZONE 'UTC')"), \(microseconds: "(m.updated_at AT TIME ZONE 'UTC')"),
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

    /// Remembers that the user favours the model `id`; false where there is no such model.
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
