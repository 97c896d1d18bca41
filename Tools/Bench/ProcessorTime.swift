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

/// How much of the machine's processors other work took than a run's: the load, the services, PostgreSQL and this
/// program. A ratio of two measurements of one run stands it, a figure alone does not.
struct MachineNoise: Codable, Sendable, Equatable {
    /// The part of all processor time that other processes took, from 0 to 1.
    var others: Double
    /// The part that the hypervisor gave to other machines, from 0 to 1.
    var stolen: Double

    /// A machine is quiet while others take less than this.
    static let quiet = 0.05

    var isQuiet: Bool { others + stolen < Self.quiet }

    /// Seconds of processor time since the machine began, of all processors together.
    struct Clock {
        let busy: Double
        let stolen: Double
        let all: Double
        /// Of the load, the services, PostgreSQL and this program.
        let ours: Double

        /// What was between `start` and this moment; services and loads that began after `start` have ended.
        func noise(since start: Clock) -> MachineNoise {
            let time = max(all - start.all, .leastNonzeroMagnitude)
            return MachineNoise(
                others: max(0, (busy - start.busy) - (ours - start.ours)) / time,
                stolen: (stolen - start.stolen) / time)
        }
    }
}

extension MachineNoise.Clock {
    /// The present state. `postmaster` is the first process of the server.
    init(postmaster: Int32) {
        // user, nice, system, idle, iowait, irq, softirq, steal (proc(5))
        let line = (try? String(contentsOfFile: "/proc/stat", encoding: .utf8))?.prefix { $0 != "\n" } ?? ""
        let times = line.split(separator: " ").dropFirst().prefix(8).compactMap { Double($0) }
            .map { $0 / Double(sysconf(Int32(_SC_CLK_TCK))) }
        let whole = times.count == 8 ? times : [Double](repeating: 0, count: 8)
        self.init(
            // Interrupts are of no process, and mostly of the load's own packets.
            busy: whole[0] + whole[1] + whole[2], stolen: whole[7], all: whole.reduce(0, +),
            ours: ProcessorTime.ofFamily(postmaster) + ProcessorTime.own + ProcessorTime.endedChildren)
    }
}

/// The peak memory of a process, in bytes.
func residentPeak(of process: Int32) -> Int? {
    let lines = (try? String(contentsOfFile: "/proc/\(process)/status", encoding: .utf8))?.split(separator: "\n")
    let line = lines?.first { $0.hasPrefix("VmHWM:") }
    return line?.split(separator: " ").dropLast().last.flatMap { Int($0) }.map { $0 * 1024 }
}
