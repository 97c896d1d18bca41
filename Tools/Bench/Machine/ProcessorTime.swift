import Foundation

/// Processor time of processes, user and system together, in seconds (proc(5)).
enum ProcessorTime {
    private struct Status {
        let parent: Int32
        let own: Double
        /// Of children that have ended and were waited for.
        let ended: Double

        init?(of process: Int32) {
            guard let text = try? String(contentsOfFile: "/proc/\(process)/stat", encoding: .utf8),
                // The name before it may contain spaces and parentheses.
                let end = text.lastIndex(of: ")")
            else { return nil }
            let fields = text[text.index(after: end)...].split(separator: " ")
            guard fields.count > 14, let parent = Int32(fields[1]) else { return nil }
            let times = fields[11...14].compactMap { Double($0) }.map { $0 / Double(sysconf(Int32(_SC_CLK_TCK))) }
            guard times.count == 4 else { return nil }
            self.parent = parent
            own = times[0] + times[1]
            ended = times[2] + times[3]
        }
    }

    /// Of one process; zero when it is gone.
    static func of(_ process: Int32) -> Double {
        Status(of: process)?.own ?? 0
    }

    /// Of a process, of its children, and of those that have ended: a PostgreSQL server with all its backends.
    static func ofFamily(_ process: Int32) -> Double {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
        let children = names.compactMap { Int32($0) }.compactMap(Status.init(of:)).filter { $0.parent == process }
        return children.reduce(Status(of: process).map { $0.own + $0.ended } ?? 0) { $0 + $1.own }
    }

    /// The parent of a process.
    static func parent(of process: Int32) -> Int32? {
        Status(of: process)?.parent
    }

    /// Of this program alone.
    static var own: Double { usage(RUSAGE_SELF) }

    /// Of this program's children that have ended: load generators, as their time is only known then.
    static var endedChildren: Double { usage(RUSAGE_CHILDREN) }

    private static func usage(_ who: __rusage_who) -> Double {
        var usage = rusage()
        getrusage(__rusage_who_t(who.rawValue), &usage)
        return [usage.ru_utime, usage.ru_stime].reduce(0) { $0 + Double($1.tv_sec) + Double($1.tv_usec) / 1e6 }
    }
}

/// The most memory that a process ever had in use, in bytes.
func residentPeak(of process: Int32) -> Int? {
    let lines = (try? String(contentsOfFile: "/proc/\(process)/status", encoding: .utf8))?.split(separator: "\n")
    let line = lines?.first { $0.hasPrefix("VmHWM:") }
    return line?.split(separator: " ").dropLast().last.flatMap { Int($0) }.map { $0 * 1024 }
}
