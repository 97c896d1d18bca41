import Analytics
import Domain
import Foundation
import HTTPSupport
import Postgres
import Storage
import TestSupport
import Testing

@testable import AdminAPI

/// The forms of numbers, money, times and texts, in the reader's manner.
@Suite(.timeLimit(.minutes(10))) struct ReaderTests {
    private static let english = Reader(.english, zoneName: "UTC", now: AdminBench.start)
    private static let turkish = Reader(.turkish, zoneName: "Europe/Istanbul", now: AdminBench.start)

    private static func number(_ text: String) throws -> Decimal {
        try #require(Decimal(string: text, locale: Locale(identifier: "en_US_POSIX")))
    }

    static let amounts: [(dollars: String, english: String, turkish: String)] = [
        ("1234.56", "$1,234.56", "$1.234,56"), ("-1234.5", "-$1,234.50", "-$1.234,50"), ("0", "$0.00", "$0,00"),
        ("0.0123", "$0.0123", "$0,0123"), ("0.000001", "$0.000001", "$0,000001"),
        ("0.0000001", "< $0.000001", "< $0,000001"), ("-0.00000001", "> -$0.000001", "> -$0,000001"),
    ]

    @Test(arguments: amounts) func moneyIsWrittenInTheReadersManner(
        _ amount: (dollars: String, english: String, turkish: String)
    ) throws {
        let dollars = try Self.number(amount.dollars)
        #expect(Self.english.money(dollars) == amount.english)
        #expect(Self.turkish.money(dollars) == amount.turkish)
    }

    @Test func numbersAreWrittenInTheReadersManner() throws {
        let number = try Self.number("1234567.891")
        #expect(Self.english.count(number) == "1,234,568" && Self.turkish.count(number) == "1.234.568")
        #expect(Self.english.decimal(number) == "1,234,567.89" && Self.turkish.decimal(number) == "1.234.567,89")
        let ratio = try Self.number("0.125")
        #expect(Self.english.percent(ratio) == "12.5%" && Self.turkish.percent(ratio) == "%12,5")
        #expect(Self.turkish.compact(number) == "1,23\u{A0}Mn" && Self.english.compact(number) == "1.23M")
        #expect(Self.turkish.duration(milliseconds: 1_500) == "1,5 sn")
    }

    @Test func whatRoundsToZeroHasNoSign() throws {
        let tiny = try Self.number("-0.0004")
        #expect(Self.english.percent(tiny) == "0%" && Self.turkish.percent(tiny) == "%0")
        #expect(Self.english.count(tiny) == "0" && Self.english.decimal(tiny) == "0")
        #expect(Self.english.duration(milliseconds: tiny) == "0 ms")
    }

    @Test func timesAreThoseOfTheReadersZone() {
        #expect(Self.english.time(AdminBench.start) == "23 Nov 2026 08:04:09")
        #expect(Self.turkish.time(AdminBench.start) == "23 Kas 2026 11:04:09")
    }

    @Test func whatNobodySeesIsShown() {
        let hidden: [UInt32] = [
            0xAD, 0x34F, 0x200B, 0x2028, 0x2029, 0x2060, 0x2063, 0x206A, 0x3164, 0xFEFF, 0xE0001, 0xE0041, 0xE01EF,
        ]
        for value in hidden.compactMap(Unicode.Scalar.init) {
            let code = String(value.value, radix: 16, uppercase: true)
            #expect("a\(value)b".withVisibleControls == "a⟨U+\(code)⟩b")
        }
        for text in ["İğneci ışık", "👨‍👩‍👧 ❤️", "می‌خواهم", "a\tb\r\nc"] { #expect(text.withVisibleControls == text) }
    }

    @Test func aPeriodIsComparedWithNoMoreThanItHasLasted() async throws {
        try await withTestDatabase { database in
            try await database.pool(as: .admin).withConnection { connection in
                let periods = try PagePeriods(Self.english, connection)
                #expect(periods.month.to.rfc3339 == "2026-11-23T08:15:00.000Z")
                #expect(periods.monthBefore.to.rfc3339 == "2026-10-23T08:00:00.000Z")
                #expect(periods.dayBefore.to.rfc3339 == "2026-11-22T08:00:00.000Z")
            }
        }
    }
}
