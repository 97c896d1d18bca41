package import Domain

/// What a body contains, in its order.
package struct ParsedBody: Sendable {
    /// In which style the sender expects the answer.
    package enum Form: Sendable, Hashable {
        /// One event of the documented shape, or a body that is no object at all: answered as Laravel does.
        case documented
        /// Everything else: one result per event.
        case events
    }

    package var form: Form
    /// One for each element of an array, nulls included, and each document of a sequence.
    package var results: [Result<UsageEvent, Rejection>]

    package init(form: Form, results: [Result<UsageEvent, Rejection>]) {
        self.form = form
        self.results = results
    }
}
