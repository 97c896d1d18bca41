import ArgumentParser
import Domain
import Foundation
import Storage

/// The options that choose quarantine entries; all that are given must hold.
struct QuarantineConditions: ParsableArguments {
    @Option(help: "This reason; may be given several times.") var reason: [QuarantineReason] = []
    @Option(help: "The id of the user whom the event names, or who holds its key.") var user: Int64?
    @Option(help: "The first digits of the SHA-256 of the event's key.") var keyHash: HexPrefix?
    @Option(help: "The model, as the client named it.") var model: String?
    @Option(help: "Received at this time or later: RFC 3339, or a date in UTC.") var from: Moment?
    @Option(help: "Received before this time.") var to: Moment?

    func filter(_ state: QuarantineFilter.State, ids: [EventKey] = []) -> QuarantineFilter {
        QuarantineFilter(
            state: state, ids: ids.isEmpty ? nil : ids, reasons: Set(reason), userID: user, keyHash: keyHash,
            model: model, from: from?.timestamp, to: to?.timestamp)
    }
}

/// Which entries a list shows.
enum QuarantineState: String, EnumerableFlag {
    case open, resolved, all

    var value: QuarantineFilter.State {
        switch self {
        case .open: .open
        case .resolved: .resolved
        case .all: .all
        }
    }
}

/// A point in time as an operator writes it: RFC 3339, or a date, which means its beginning in UTC.
struct Moment: ExpressibleByArgument {
    let timestamp: Timestamp

    init?(argument: String) {
        let styles = [
            Date.ISO8601FormatStyle(), Date.ISO8601FormatStyle(includingFractionalSeconds: true),
            Date.ISO8601FormatStyle().year().month().day(),
        ]
        // The date's style would also take a time that it cannot read for a date with something behind it.
        let fitting = argument.utf8.count == 10 ? styles.suffix(1) : styles.prefix(2)
        guard let date = fitting.lazy.compactMap({ try? $0.parse(argument) }).first else { return nil }
        timestamp = Timestamp(microseconds: Int64((date.timeIntervalSince1970 * 1_000_000).rounded()))
    }
}

extension QuarantineReason: ExpressibleByArgument {}

extension EventKey: ExpressibleByArgument {
    public init?(argument: String) {
        self.init(argument.lowercased())
    }
}

extension HexPrefix: ExpressibleByArgument {
    public init?(argument: String) {
        self.init(argument)
    }
}
