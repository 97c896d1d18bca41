import Analytics
import ArgumentParser
import Domain
import Storage

/// A UTC day on the command line.
struct Day: ExpressibleByArgument {
    /// Days since 1970-01-01.
    let number: Int

    init?(argument: String) {
        guard let date = CalendarDate(argument) else { return nil }
        number = Int(date.daysSince1970)
    }
}

/// The days and the user that an integrity check is about.
struct RangeOptions: ParsableArguments {
    @Option(help: "First UTC day, such as 2026-11-01 (default: the beginning).")
    var from: Day?

    @Option(help: "The day after the last one (default: no end).")
    var to: Day?

    @Option(help: "A user's id (default: all users).")
    var user: Int64?

    /// The range that the options name.
    var range: RollupRange { RollupRange(from: from?.number, to: to?.number, user: user) }

    func validate() throws {
        if let from, let to, from.number >= to.number { throw ValidationError("--from must lie before --to.") }
        if let user, user <= 0 { throw ValidationError("--user is the id of a user, 1 or more.") }
    }
}
