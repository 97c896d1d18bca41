import ArgumentParser
import Domain
import Storage

extension UserCommand {
    /// `codexflow user limit`
    struct Limit: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Sets a user's own limits of a day or a month, instead of the plan's.",
            discussion: "What is not named stays. A running LiteLLM knows within seconds.")

        @Option(help: "The user's e-mail.") var email: String
        @Option(help: "daily or monthly.") var period: QuotaPeriod
        @Option(help: "Requests of the window, or plan.") var requests: String?
        @Option(help: "Tokens of the window, or plan.") var tokens: String?
        @Option(help: "USD of the window, such as 100.00, or none.") var budget: String?

        func validate() throws {
            if requests == nil, tokens == nil, budget == nil {
                throw ValidationError("Name --requests, --tokens or --budget.")
            }
            _ = try (count(requests), count(tokens), money())
        }

        func run() async throws {
            let change = UserLimits.Change(
                requests: try count(requests), tokens: try count(tokens), budget: try money())
            try await Operation.run { _, connection in
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
            abstract: "Sets which models a user may call, by the names that LiteLLM offers.")

        @Option(help: "The user's e-mail.") var email: String
        @Flag(help: "Let the user call all models again.") var all = false
        @Argument(help: "The models; every other is refused.") var models: [String] = []

        func validate() throws {
            if all == !models.isEmpty { throw ValidationError("Name models, or --all.") }
        }

        func run() async throws {
            try await Operation.run { _, connection in
                let user = try UserAccounts.requireID(email: email, connection)
                try UserLimits.allow(models: all ? nil : models, user: user, connection)
            }
            print("set; LiteLLM knows within seconds")
        }
    }
}

extension QuotaPeriod: ExpressibleByArgument {}
