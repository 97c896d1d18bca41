import Domain
import Foundation
import HTTPSupport
import Mustache
import NIOCore

/// A JSON value in a template: `{{money(cost)}}` writes the member `cost` for the page's reader.
///
/// Every value that a template shows is escaped as HTML. A member that is null is present and empty, so a template
/// never takes a member of the same name from an outer object.
struct View: Sendable {
    let json: JSON
    /// The member's name, by which ``PageTexts`` names its values; empty for an element or the root.
    let name: String
    let page: PageTone

    init(_ json: JSON, named name: String = "", for page: PageTone) {
        self.json = json
        self.name = name
        self.page = page
    }
}

/// What the words and forms of one page depend on.
struct PageTone: Sendable {
    let reader: Reader
    let texts: PageTexts

    /// What a template sees of `json`.
    fileprivate func value(_ json: JSON, _ name: String) -> Any {
        switch json {
        case .bool(let value): value
        case .array(let elements): elements.map { View($0, for: self) }
        default: View(json, named: name, for: self)
        }
    }
}

extension View: MustacheParent {
    func child(named name: String) -> Any? { json[name].map { page.value($0, name) } }
}

extension View: MustacheCustomRenderable {
    var renderText: String {
        switch json {
        case .null: ""
        case .bool(let value): value ? "true" : "false"
        case .number(let literal): literal
        case .string(let text): text.withVisibleControls
        case .array, .object: String(decoding: json.buffer.readableBytesView, as: UTF8.self).withVisibleControls
        }
    }

    /// Whether a section of the value is left out.
    var isNull: Bool { json == .null }
}

extension View: MustacheTransformable {
    /// The value in the form `name`; a dash for a value that is missing or has another form.
    func transform(_ name: String) -> Any? {
        if let test = Self.tests[name] { return test(self) }
        guard let form = Self.forms[name] else { return nil }
        return form(self) ?? "–"
    }

    /// The forms in which a template can write a value.
    static let forms: [String: @Sendable (View) -> String?] = [
        "count": { view in view.decimal.map(view.page.reader.count) },
        "decimal": { view in view.decimal.map(view.page.reader.decimal) },
        "compact": { view in view.decimal.map(view.page.reader.compact) },
        "money": { view in view.decimal.map(view.page.reader.money) },
        "exact": { view in view.decimal.map { view.page.reader.exactMoney($0) } },
        "percent": { view in view.decimal.map(view.page.reader.percent) },
        // The API's limits have percentages from 0 to 100.
        "hundredths": { view in view.decimal.map { view.page.reader.percent($0 / 100) } },
        "duration": { view in view.decimal.map(view.page.reader.duration) },
        "seconds": { view in view.decimal.map { view.page.reader.duration(milliseconds: $0 * 1_000) } },
        "time": { view in view.moment.map(view.page.reader.time) },
        "date": { view in view.moment.map(view.page.reader.date) },
        "day": { view in view.moment.map(view.page.reader.day) },
        "clock": { view in view.moment.map(view.page.reader.clock) },
        "raw": { $0.renderText },
        "url": { $0.json == .null ? "" : $0.rawText.percentEncoded },
        // The words of a value: of `status` "error", the text `status_error`. A value without words stands for itself.
        "label": { view in
            view.json == .null ? nil : view.page.text("\(view.name)_\(view.rawText)") ?? view.renderText
        },
        // The words that the value names.
        "text": { view in view.page.text(view.rawText) ?? view.renderText },
        // JSON for people, one member on a line.
        "readable": { $0.json.readable.withVisibleControls },
        "json": { view in String(decoding: view.json.buffer.readableBytesView, as: UTF8.self).withVisibleControls },
    ]

    /// The questions that a section can ask: `{{#is_zero(errors)}}…{{/is_zero(errors)}}`.
    static let tests: [String: @Sendable (View) -> Bool] = [
        "is_zero": { ($0.decimal ?? 0) == 0 },
        "is_one": { $0.decimal == 1 },
        "is_empty": { $0.json == .null || $0.json == "" },
        "is_negative": { ($0.decimal ?? 0) < 0 },
    ]

    private var rawText: String { if case .string(let text) = json { text } else { renderText } }

    /// The value as a decimal number: a number, or money.
    private var decimal: Decimal? {
        switch json {
        case .number(let text), .string(let text): Decimal(string: text, locale: Locale(identifier: "en_US_POSIX"))
        default: nil
        }
    }

    private var moment: Timestamp? { json.text.flatMap { Timestamp(rfc3339: $0) } }
}

extension String {
    /// The text with a sign in place of each character that would change the direction or the place of the text around
    /// it, or that nobody would see.
    ///
    /// The same goes for marks that join a sign of HTML, such as `<` and U+0301. Mustache escapes whole characters, and
    /// such a pair is one, which it does not know.
    var withVisibleControls: String {
        guard !utf8.allSatisfy({ (0x20..<0x7F).contains($0) }) else { return self }
        var text = String.UnicodeScalarView()
        for character in self {
            let scalars = character.unicodeScalars
            let isSign = scalars.contains { Self.signs.contains($0) }
            for scalar in scalars {
                if scalar.isHiddenControl || (isSign && !Self.signs.contains(scalar)) {
                    text.append(contentsOf: "⟨U+\(String(scalar.value, radix: 16, uppercase: true))⟩".unicodeScalars)
                } else {
                    text.append(scalar)
                }
            }
        }
        return String(text)
    }

    /// The signs that begin or end something in HTML.
    private static let signs: Set<Unicode.Scalar> = ["<", ">", "&", "\"", "'"]

    /// The text as part of a URL's query or path (RFC 3986 §2.3).
    var percentEncoded: String {
        let unreserved = CharacterSet(
            charactersIn: "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
        return addingPercentEncoding(withAllowedCharacters: unreserved) ?? ""
    }
}

extension Unicode.Scalar {
    /// Marks of direction, characters without a width and tags (Unicode, `Default_Ignorable_Code_Point`), separators
    /// of lines, marks of annotations, and controls. Visible are tab and line end, and what joins emoji and letters or
    /// chooses their form.
    fileprivate var isHiddenControl: Bool {
        switch value {
        case 0x09, 0x0A, 0x0D, 0x200C, 0x200D, 0xFE00...0xFE0F: false
        case ..<0x20, 0x7F..<0xA0, 0x2028, 0x2029, 0xFFF9...0xFFFB: true
        default: properties.isDefaultIgnorableCodePoint
        }
    }
}
