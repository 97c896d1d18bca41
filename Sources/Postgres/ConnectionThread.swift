import Dispatch
import Glibc
import Synchronization

/// An operating-system thread of its own on which an actor runs, so that a blocking call stops nobody else.
final class ConnectionThread: SerialExecutor {
    private let jobs = Mutex<[UnownedJob]>([])
    private let isStopping = Atomic(false)
    private let available = DispatchSemaphore(value: 0)
    private let handle = Mutex<pthread_t?>(nil)

    /// Starts the thread; throws `connectFailed` if the system has none to give.
    init() throws {
        var created = pthread_t()
        let reference = Unmanaged.passRetained(self)
        let status = pthread_create(
            &created, nil,
            { argument in
                if let argument {
                    Unmanaged<ConnectionThread>.fromOpaque(argument).takeRetainedValue().work()
                }
                return nil
            }, reference.toOpaque())
        guard status == 0 else {
            reference.release()
            throw PostgresError(.connectFailed, "cannot start a thread (error \(status))")
        }
        let thread = created
        handle.withLock { $0 = thread }
    }

    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        jobs.withLock { $0.append(job) }
        available.signal()
    }

    /// Ends the thread after the jobs it already has, and waits for that: call it when there are none.
    func stop() {
        isStopping.store(true, ordering: .releasing)
        available.signal()
        let thread = handle.withLock { handle in
            defer { handle = nil }
            return handle
        }
        if let thread {
            pthread_join(thread, nil)
        }
    }

    private func work() {
        while true {
            available.wait()
            let job = jobs.withLock { $0.isEmpty ? nil : $0.removeFirst() }
            if let job {
                job.runSynchronously(on: asUnownedSerialExecutor())
            } else if isStopping.load(ordering: .acquiring) {
                return
            }
        }
    }
}
