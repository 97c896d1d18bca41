import ArgumentParser
import Bootstrap
import Domain
import Foundation
import Passwords
import Storage

/// `codexflow user`
struct UserCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "user", abstract: "Makes and lists users, and changes their keys and limits.",
        subcommands: [Create.self, List.self, Verify.self, RotateKey.self, Limit.self, Models.self])

    /// `codexflow user create`
    struct Create: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Makes a user and prints the new key. It is not shown again.",
            discussion: "Without --password-stdin the password is random; Laravel's password reset sets another.")

        @Option(help: "The user's name.") var name: String
        @Option(help: "The user's e-mail, which is the login in Laravel.") var email: String
        @Option(help: "The plan: starter, pro or agency.") var plan = "starter"
        @Flag(help: "Make an administrator.") var admin = false
        @Flag(help: "Read the password from the first line of standard input.") var passwordStdin = false
        @Flag(help: "Print JSON.") var json = false

        func run() async throws {
            let key = APIKey.random()
            let password = passwordStdin ? readLine(strippingNewline: true) ?? "" : APIKey.random()
            guard password.utf8.count >= 8 else { throw ValidationError("A password has at least 8 characters.") }
            let account = UserAccounts.NewAccount(
                name: name, email: email, passwordHash: try Password.hash(password), apiKey: key, plan: plan,
                isAdmin: admin)
            let id = try await OperatorContext.run { context, connection in
                try UserAccounts.create(account, connection, now: context.now)
            }
            NewKey(id: id, email: email, apiKey: key).print(asJSON: json)
        }
    }

    /// `codexflow user list`
    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Lists all users, with the beginning of each key.")

        func run() async throws {
            var last: Int64 = 0
            while true {
                let after = last
                let accounts = try await OperatorContext.run { _, connection in
                    try UserAccounts.list(connection, after: after)
                }
                guard let newest = accounts.last else { return }
                last = newest.id
                for account in accounts {
                    let status = account.isDeleted ? "deleted" : account.status
                    let role = account.isAdmin ? "admin" : "user"
                    let key = account.keyPrefix.map { "\($0)…" } ?? "no key"
                    // A tab in an e-mail would begin another column.
                    let cells = ["\(account.id)", account.email, account.plan, status, role, key]
                    Terminal.print(own: cells.map(\.visible).joined(separator: "\t"))
                }
            }
        }
    }

    /// `codexflow user rotate-key`
    struct RotateKey: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Gives a user a new key and prints it. It is not shown again.",
            discussion: "Events of calls under the old key are still the user's; new calls need the new key.")

        @Option(help: "The user's e-mail.") var email: String
        @Flag(help: "Print JSON.") var json = false

        func run() async throws {
            let (key, email) = (APIKey.random(), email)
            let account = try await OperatorContext.run { context, connection in
                let user = try UserAccounts.requireID(email: email, connection)
                return try UserAccounts.rotateKey(user, to: key, connection, now: context.now)
            }
            NewKey(id: account.id, email: email, apiKey: key).print(asJSON: json)
        }
    }
}

/// A new key, which is printed once.
private struct NewKey: Encodable {
    let id: Int64
    let email: String
    let apiKey: String

    private enum CodingKeys: String, CodingKey {
        case id, email
        case apiKey = "api_key"
    }

    func print(asJSON: Bool) {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        if asJSON, let data = try? encoder.encode(self) {
            Terminal.print(json: String(decoding: data, as: UTF8.self))
        } else {
            Terminal.print(lines: ["id: \(id)", "email: \(email)", "api key: \(apiKey)", "The key is not shown again."])
        }
    }
}

extension UserCommand {
    /// `codexflow user limit`
    struct Limit: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Gives a user limits of a day or a month that replace those of the plan.",
            discussion: "A limit that is not named stays. LiteLLM applies the change within seconds.")

        @Option(help: "The user's e-mail.") var email: String
        @Option(help: "The period: daily or monthly.") var period: QuotaPeriod
        @Option(help: "Requests of the period, or plan for the limit of the plan.") var requests: String?
        @Option(help: "Tokens of the period, or plan for the limit of the plan.") var tokens: String?
        @Option(help: "USD of the period, such as 100.00, or none.") var budget: String?

        func validate() throws {
            if requests == nil, tokens == nil, budget == nil {
                throw ValidationError("Name --requests, --tokens or --budget.")
            }
            _ = try (count(requests), count(tokens), money())
        }

        func run() async throws {
            let change = UserLimits.Change(
                requests: try count(requests), tokens: try count(tokens), budget: try money())
            try await OperatorContext.run { _, connection in
                let user = try UserAccounts.requireID(email: email, connection)
                try UserLimits.set(change, period, user: user, connection)
            }
            print("set; LiteLLM knows within seconds")
        }

        private func count(_ text: String?) throws -> UserLimits.Setting<Int64> {
            guard let text else { return .keep }
            if text == "plan" { return .clear }
            guard let number = Int64(text), number >= 0 else {
                throw ValidationError("'\(text)' is neither a number of 0 or more nor plan.")
            }
            return .set(number)
        }

        private func money() throws -> UserLimits.Setting<Money> {
            guard let budget else { return .keep }
            if budget == "none" { return .clear }
            guard let literal = DecimalLiteral(budget), Cost(literal) != nil, let amount = Money(budget) else {
                throw ValidationError("'\(budget)' is neither an amount of USD from 0 to 99999999 nor none.")
            }
            return .set(amount)
        }
    }

    /// `codexflow user models`
    struct Models: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Sets the models that a user may call, by their names in LiteLLM.")

        @Option(help: "The user's e-mail.") var email: String
        @Flag(help: "Allow all models again.") var all = false
        @Argument(help: "The allowed models; all others are refused.") var models: [String] = []

        func validate() throws {
            if all == !models.isEmpty { throw ValidationError("Name models, or --all.") }
        }

        func run() async throws {
            try await OperatorContext.run { _, connection in
                let user = try UserAccounts.requireID(email: email, connection)
                try UserLimits.allow(models: all ? nil : models, user: user, connection)
            }
            print("set; LiteLLM knows within seconds")
        }
    }
}

extension QuotaPeriod: ExpressibleByArgument {}

extension UserCommand {
    /// `codexflow user verify`
    struct Verify: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Marks a user's e-mail address as verified, as the link in Laravel's mail does.",
            discussion: """
                An account that was registered under ADMIN_REGISTRATION=verified then gets the limits of its plan. \
                The change is in the audit log.
                """)

        @Option(help: "The user's e-mail.") var email: String

        func run() async throws {
            let email = email
            let isNew = try await OperatorContext.run { context, connection in
                let user = try UserAccounts.requireID(email: email, connection)
                return try UserAdministration(by: .commandLine, at: context.now).verify(user, connection)
            }
            print(isNew ? "verified; LiteLLM knows within seconds" : "was verified already")
        }
    }
}
