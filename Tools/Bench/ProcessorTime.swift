import Foundation

/// Measures processor time from its creation to a reading.
struct CPUMeter {
    /// Seconds of processor time.
    struct Reading: Equatable {
        var service: Double
        var postgres: Double
        var client: Double
    }

    /// `nil` if this program does the work of the service.
    private let service: Int32?
    private let postmaster: Int32
    private let start: Reading

    init(service: Int32?, postmaster: Int32) {
        self.service = service
        self.postmaster = postmaster
        start = Self.now(service, postmaster)
    }

    /// The processor time so far. The load generator must have ended.
    var reading: Reading {
        let now = Self.now(service, postmaster)
        return Reading(
            service: now.service - start.service, postgres: now.postgres - start.postgres,
            client: now.client - start.client)
    }

    private static func now(_ service: Int32?, _ postmaster: Int32) -> Reading {
        Reading(
            service: service.map(ProcessorTime.of) ?? ProcessorTime.own, postgres: ProcessorTime.ofFamily(postmaster),
            client: ProcessorTime.endedChildren)
    }
}

extension Measurement {
    /// `count` events in `seconds`, and the microseconds of processor time of each.
    init(count: Int, seconds: Double, cpu: CPUMeter.Reading) {
        let each = { (seconds: Double) in count > 0 ? seconds * 1e6 / Double(count) : 0 }
        self.init(
            rate: Double(count) / seconds, count: count, serviceCPU: each(cpu.service), postgresCPU: each(cpu.postgres),
            clientCPU: each(cpu.client))
    }
}

/// Processor time of processes, user and system together, in seconds (proc(5)).
enum ProcessorTime {
    private struct Status {
        let parent: Int32
        let own: Double
        /// The time of children that have ended.
        let ended: Double

        init?(of process: Int32) {
            guard let text = try? String(contentsOfFile: "/proc/\(process)/stat", encoding: .utf8),
                // The name may contain spaces and parentheses.
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

    /// The time of one process; zero if it has ended.
    static func of(_ process: Int32) -> Double {
        Status(of: process)?.own ?? 0
    }

    /// The time of a process, of its children, and of ended children: a PostgreSQL server with all its backends.
    static func ofFamily(_ process: Int32) -> Double {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
        let children = names.compactMap { Int32($0) }.compactMap(Status.init(of:)).filter { $0.parent == process }
        return children.reduce(Status(of: process).map { $0.own + $0.ended } ?? 0) { $0 + $1.own }
    }

    /// The parent of a process.
    static func parent(of process: Int32) -> Int32? {
        Status(of: process)?.parent
    }

    /// The time of this program alone.
    static var own: Double { usage(RUSAGE_SELF) }

    /// The time of this program's ended children, which are load generators.
    static var endedChildren: Double { usage(RUSAGE_CHILDREN) }

    private static func usage(_ who: __rusage_who) -> Double {
        var usage = rusage()
        getrusage(__rusage_who_t(who.rawValue), &usage)
        return [usage.ru_utime, usage.ru_stime].reduce(0) { $0 + Double($1.tv_sec) + Double($1.tv_usec) / 1e6 }
    }
}

/// The peak memory of a process, in bytes.
func residentPeak(of process: Int32) -> Int? {
    let lines = (try? String(contentsOfFile: "/proc/\(process)/status", encoding: .utf8))?.split(separator: "\n")
    let line = lines?.first { $0.hasPrefix("VmHWM:") }
    return line?.split(separator: " ").dropLast().last.flatMap { Int($0) }.map { $0 * 1024 }
}
