import Domain
import Hummingbird
import Storage
import Synchronization

/// Lets equal questions share an answer.
///
/// Of equal questions at most one is being answered. Those that arrive meanwhile wait, and share the next answer, which
/// begins after the last of them arrived. So an answer counts all that was committed before its question, shared or
/// not, and no question waits for more than two answers.
final class SharedReads<Question: Hashable & Sendable, Answer: Sendable>: Sendable {
    typealias Read = @Sendable () async throws -> Answer

    /// One answer, and who waits for it.
    private struct Turn {
        let read: Read
        var waiting: [Int: CheckedContinuation<Answer, any Error>]
        var task: Task<Void, Never>?
    }

    /// The answer that is being read, and the next one.
    private struct Line {
        var current: Turn
        var next: Turn?
    }

    private struct State {
        var lines: [Question: Line] = [:]
        var arrivals = 0
    }

    private let state = Mutex(State())

    /// How many wait for an answer.
    var waiting: Int {
        state.withLock { $0.lines.values.reduce(0) { $0 + $1.current.waiting.count + ($1.next?.waiting.count ?? 0) } }
    }

    /// The answer to `question`: by `read`, or by that of an equal question.
    ///
    /// - Throws: What the shared `read` throws; `CancellationError` when the task is cancelled. A read for which nobody
    ///   waits any more is cancelled.
    func answer(to question: Question, _ read: @escaping Read) async throws -> Answer {
        let arrival = state.withLock { state in
            state.arrivals += 1
            return state.arrivals
        }
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                // A task that is cancelled already has called `leave`, and nobody would resume it.
                guard !Task.isCancelled else { return continuation.resume(throwing: CancellationError()) }
                enter(question, arrival, continuation, read)
                if Task.isCancelled { leave(question, arrival) }
            }
        } onCancel: {
            leave(question, arrival)
        }
    }

    private func enter(
        _ question: Question, _ arrival: Int, _ continuation: CheckedContinuation<Answer, any Error>,
        _ read: @escaping Read
    ) {
        state.withLock { state in
            let turn = Turn(read: read, waiting: [arrival: continuation])
            if state.lines[question] == nil {
                state.lines[question] = Line(current: begun(turn, question))
            } else if state.lines[question]?.next == nil {
                state.lines[question]?.next = turn
            } else {
                state.lines[question]?.next?.waiting[arrival] = continuation
            }
        }
    }

    private func begun(_ turn: Turn, _ question: Question) -> Turn {
        var turn = turn
        let read = turn.read
        turn.task = Task {
            let result: Result<Answer, any Error>
            do { result = .success(try await read()) } catch { result = .failure(error) }
            finish(question, result)
        }
        return turn
    }

    /// Ends the current turn, and begins the next one.
    private func finish(_ question: Question, _ result: Result<Answer, any Error>) {
        let waiting = state.withLock { state in
            let line = state.lines.removeValue(forKey: question)
            state.lines[question] = line?.next.map { Line(current: begun($0, question)) }
            return line?.current.waiting ?? [:]
        }
        for continuation in waiting.values { continuation.resume(with: result) }
    }

    private func leave(_ question: Question, _ arrival: Int) {
        let continuation = state.withLock { state -> CheckedContinuation<Answer, any Error>? in
            guard var line = state.lines[question] else { return nil }
            defer { state.lines[question] = line }
            if let continuation = line.current.waiting.removeValue(forKey: arrival) {
                if line.current.waiting.isEmpty { line.current.task?.cancel() }
                return continuation
            }
            let continuation = line.next?.waiting.removeValue(forKey: arrival)
            if line.next?.waiting.isEmpty == true { line.next = nil }
            return continuation
        }
        continuation?.resume(throwing: CancellationError())
    }
}

/// What two requests have in common that may share an answer: who asks, for what, and in which second.
struct RequestQuestion: Sendable, Hashable {
    private let operation: String
    private let caller: Int64
    private let isAdmin: Bool
    private let target: String
    private let parameters: [String: [String]]
    private let format: Format
    /// Since 1970. A report's range may end now.
    private let second: Int64

    init(_ operation: String, _ request: APIRequest) throws {
        let user = try request.user
        self.operation = operation
        (caller, isAdmin) = (user.id, user.isAdmin)
        target = request.http.uri.string
        (parameters, format) = (request.parameters, request.format)
        second = request.now.microseconds / 1_000_000
    }
}

/// What two requests for an overview have in common that may share its figures: whose they are, in which zone, and in
/// which second. The language is of no matter to a figure.
struct PageQuestion: Sendable, Hashable {
    private let subject: Int64?
    private let zone: String
    /// Since 1970.
    private let second: Int64

    /// The figures of `subject`, `nil` for those of all users, for `reader`.
    init(of subject: Int64?, _ reader: Reader) {
        (self.subject, zone) = (subject, reader.zoneName)
        second = reader.now.microseconds / 1_000_000
    }
}

extension Operation {
    /// The same operation, whose equal requests share an answer of `reads`.
    func shared(by reads: SharedReads<RequestQuestion, APIResponse>) -> Operation {
        let (id, handle) = (id, handle)
        return answered { request in
            try await reads.answer(to: RequestQuestion(id, request)) { try await handle(request).encoded }
        }
    }
}
