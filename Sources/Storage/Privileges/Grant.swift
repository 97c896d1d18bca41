/// One object of the database and what each role may do with it.
package struct Grant: Sendable, Hashable {
    /// A kind of object, as GRANT calls it.
    package enum Kind: String, Sendable {
        case schema, table, sequence, function
    }

    /// A privilege, on the whole object or on some columns of it.
    package struct Right: Sendable, Hashable, CustomStringConvertible {
        package let privilege: String
        package var columns: [String] = []

        static let usage = Right(privilege: "USAGE")
        static let execute = Right(privilege: "EXECUTE")
        static let delete = Right(privilege: "DELETE")
        static func select(_ columns: String...) -> Right { Right(privilege: "SELECT", columns: columns) }
        static func insert(_ columns: String...) -> Right { Right(privilege: "INSERT", columns: columns) }
        static func update(_ columns: String...) -> Right { Right(privilege: "UPDATE", columns: columns) }

        /// As GRANT writes it.
        package var description: String {
            columns.isEmpty ? privilege : "\(privilege) (\(columns.joined(separator: ", ")))"
        }
    }

    package let kind: Kind
    /// With its schema, and a function with the full names of its parameters' types.
    package let name: String
    /// A function that does one strong thing as its owner, for roles that could not do it themselves.
    let actsAsOwner: Bool
    private let rights: [DatabaseRole: [Right]]

    init(_ kind: Kind, _ name: String, actsAsOwner: Bool = false, _ rights: [DatabaseRole: [Right]]) {
        self.kind = kind
        self.name = name
        self.actsAsOwner = actsAsOwner
        self.rights = rights
    }

    /// Whether it is in our own schema, and not Laravel's.
    package var isOurs: Bool { name == "metering" || name.hasPrefix("metering.") }

    /// As GRANT names it.
    var object: String { "\(kind.rawValue.uppercased()) \(name)" }

    /// What `role` may do, in a fixed order, each right once.
    package func rights(of role: DatabaseRole) -> [Right] {
        let all = role.parts.flatMap { rights[$0] ?? [] }
        return all.indices.filter { all.firstIndex(of: all[$0]) == $0 }.map { all[$0] }
    }
}
