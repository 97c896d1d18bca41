/// The processor time that passes between its making and a reading.
struct CPUMeter {
    /// Seconds of each part.
    struct Reading: Equatable {
        var service: Double
        var postgres: Double
        var client: Double
    }

    /// `nil` where this program does the service's work itself.
    private let service: Int32?
    private let postmaster: Int32
    private let start: Reading

    init(service: Int32?, postmaster: Int32) {
        self.service = service
        self.postmaster = postmaster
        start = Self.now(service, postmaster)
    }

    /// What was used since, once the load generator has ended.
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
    /// `count` events in `seconds`, and the microseconds that each cost.
    init(count: Int, seconds: Double, cpu: CPUMeter.Reading) {
        let each = { (seconds: Double) in count > 0 ? seconds * 1e6 / Double(count) : 0 }
        self.init(
            rate: Double(count) / seconds, count: count, serviceCPU: each(cpu.service), postgresCPU: each(cpu.postgres),
            clientCPU: each(cpu.client))
    }
}
