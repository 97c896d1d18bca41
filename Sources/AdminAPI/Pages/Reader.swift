import Domain
import Foundation
import HTTPSupport
import HTTPTypes
import Hummingbird

/// A language of the pages.
enum Language: String, Sendable, CaseIterable {
    case english = "en"
    case turkish = "tr"

    /// The first of the languages that `header`, an `Accept-Language`, prefers (RFC 9110 §12.5.4); English for others.
    init(preferredBy header: String?) {
        let ranges = (header ?? "").lowercased().split(separator: ",").map { range in
            let parts = range.split(separator: ";").map(\.trimmingSpaces)
            let weight = parts.dropFirst().first { $0.hasPrefix("q=") }.flatMap { Double($0.dropFirst(2)) } ?? 1
            return (tag: parts.first?.prefix { $0 != "-" } ?? "", weight: weight)
        }
        let known = ranges.enumerated().compactMap { index, range in
            Language(rawValue: String(range.tag)).map { (language: $0, weight: range.weight, index: index) }
        }
        self =
            known.filter { $0.weight > 0 }
            .min { ($0.weight, $1.index) > ($1.weight, $0.index) }?.language ?? .english
    }

    /// The other language, to which a page offers to switch.
    var other: Language { self == .english ? .turkish : .english }

    /// The country decides the forms of numbers and dates. English dates name the month, so nobody takes it for a day.
    fileprivate var locale: Locale { Locale(identifier: self == .english ? "en_GB" : "tr_TR") }
}

/// For whom a page is written: the language, the time zone, and the forms of numbers and dates.
struct Reader: Sendable {
    let language: Language
    /// An IANA name that PostgreSQL and Foundation know.
    let zoneName: String
    let now: Timestamp
    private let zone: TimeZone

    /// A reader in the zone `zoneName`; in UTC where that is no IANA name. Foundation and PostgreSQL understand others,
    /// such as GMT+3, in different ways.
    init(_ language: Language, zoneName: String, now: Timestamp) {
        self.language = language
        self.now = now
        let zone = Self.isZone(zoneName) ? TimeZone(identifier: zoneName) : nil
        self.zoneName = zone == nil ? "UTC" : zoneName
        self.zone = zone ?? .gmt
    }

    private static let zones = Set(TimeZone.knownTimeZoneIdentifiers)

    /// Whether `name` is an IANA name that a reader can choose.
    static func isZone(_ name: String) -> Bool { zones.contains(name) || name == "UTC" }

    /// A whole number: `1,234` or `1.234`.
    func count(_ number: Decimal) -> String {
        number.rounded(0).formatted(.number.precision(.fractionLength(0)).locale(language.locale))
    }

    /// A decimal number with at most two decimals.
    func decimal(_ number: Decimal) -> String {
        number.rounded(2).formatted(.number.precision(.fractionLength(0...2)).locale(language.locale))
    }

    /// A large number in few characters: `1.2M` or `1,2 Mn`.
    func compact(_ number: Decimal) -> String {
        guard abs(number) >= 10_000 else { return count(number) }
        return number.formatted(
            .number.notation(.compactName).precision(.significantDigits(1...3)).locale(language.locale))
    }

    /// USD. Amounts of a dollar and more have two decimals. Smaller ones have three digits after their zeros, and at
    /// most six decimals, so that a call's cost can be read. What is less than the sixth decimal is said to be less.
    func money(_ dollars: Decimal) -> String {
        let least = Decimal(sign: .plus, exponent: -Self.mostDecimals, significand: 1)
        if dollars != 0, abs(dollars) < least {
            return "\(dollars < 0 ? ">" : "<") \(exactMoney(dollars < 0 ? -least : least))"
        }
        var decimals = 2
        var rest = abs(dollars)
        while rest > 0, rest < 1, decimals < Self.mostDecimals {
            rest *= 10
            decimals += 1
        }
        return exactMoney(dollars, decimals: 2...decimals)
    }

    private static let mostDecimals = 6

    /// USD with all its decimals.
    func exactMoney(_ dollars: Decimal, decimals: ClosedRange<Int> = 2...12) -> String {
        let sign = dollars < 0 ? "-" : ""
        let number = abs(dollars).formatted(.number.precision(.fractionLength(decimals)).locale(language.locale))
        return "\(sign)$\(number)"
    }

    /// A ratio as a percentage: `12.5%` or `%12,5`.
    func percent(_ ratio: Decimal) -> String {
        ratio.rounded(3).formatted(.percent.precision(.fractionLength(0...1)).locale(language.locale))
    }

    /// A duration that is given in milliseconds, in the unit that reads best.
    func duration(milliseconds: Decimal) -> String {
        if abs(milliseconds) < 1_000 { return "\(count(milliseconds)) ms" }
        let unit = language == .english ? "s" : "sn"
        return "\(decimal(milliseconds / 1_000)) \(unit)"
    }

    /// Day and time to the second.
    func time(_ moment: Timestamp) -> String {
        "\(date(moment)) \(format(moment, Date.FormatStyle().hour(.twoDigits(amPM: .omitted)).minute().second()))"
    }

    /// The day.
    func date(_ moment: Timestamp) -> String {
        format(moment, Date.FormatStyle().day().month(.abbreviated).year())
    }

    /// The day without its year, for the axis of a chart.
    func day(_ moment: Timestamp) -> String { format(moment, Date.FormatStyle().day().month(.abbreviated)) }

    /// Today by the clocks of the zone.
    var localDay: CalendarDate {
        var calendar = Calendar(identifier: .gregorian)
        calendar.timeZone = zone
        let parts = calendar.dateComponents([.year, .month, .day], from: Date(now))
        var utc = Calendar(identifier: .gregorian)
        utc.timeZone = .gmt
        let midnight = utc.date(from: parts) ?? Date(now)
        return CalendarDate(daysSince1970: Int64((midnight.timeIntervalSince1970 / 86_400).rounded(.down)))
    }

    /// Hours and minutes.
    func clock(_ moment: Timestamp) -> String {
        format(moment, Date.FormatStyle().hour(.twoDigits(amPM: .omitted)).minute())
    }

    private func format(_ moment: Timestamp, _ style: Date.FormatStyle) -> String {
        var style = style.locale(language.locale)
        style.timeZone = zone
        return Date(moment).formatted(style)
    }
}

extension Decimal {
    /// The number with at most so many decimals. Rounding here leaves no sign before a zero.
    fileprivate func rounded(_ decimals: Int) -> Decimal {
        var (exact, rounded) = (self, Decimal())
        NSDecimalRound(&rounded, &exact, decimals, .bankers)
        return rounded
    }
}

extension Date {
    fileprivate init(_ moment: Timestamp) {
        self.init(timeIntervalSince1970: Double(moment.microseconds) / 1_000_000)
    }
}
