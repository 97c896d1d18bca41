internal import Domain

extension ErrorText {
    /// What is kept of `text`, already scrubbed, of an error that is called `name`.
    func kept(of text: String?, name: String?) -> String? {
        switch self {
        case .code: name
        case .line: text.flatMap(Self.shortened) ?? (text == nil ? nil : name ?? "error")
        case .full: text
        }
    }

    /// `nil` where no word is left of what was longer.
    private static func shortened(_ text: String) -> String? {
        let scalars = Array(text.unicodeScalars.prefix(lineLimit + 1))
        let end = scalars.indices.first { $0 == lineLimit || endsShortText(scalars, at: $0) } ?? scalars.count
        var kept = String(String.UnicodeScalarView(scalars[..<end])).trimmed
        guard end < scalars.count else { return kept }
        guard kept.unicodeScalars.contains(where: \.properties.isAlphabetic) else { return nil }
        kept += " …"
        return kept
    }

    /// Whether a line ends here, or somebody else's words begin: a quote, which an apostrophe inside a word is not, or
    /// a bracket.
    private static func endsShortText(_ text: [Unicode.Scalar], at index: Int) -> Bool {
        switch text[index] {
        case "{", "[", "<", "`": return true
        case "'", "\u{2019}":
            let neighbours = [index - 1, index + 1].map {
                text.indices.contains($0) && text[$0].properties.isAlphabetic
            }
            return neighbours.contains(false)
        default:
            let properties = text[index].properties
            return properties.isQuotationMark || properties.generalCategory == .control
                || [.lineSeparator, .paragraphSeparator].contains(properties.generalCategory)
        }
    }
}
