import Foundation
import HTTPSupport

extension JSON {
    /// The fields of a form as a browser sends it (url.spec.whatwg.org, "application/x-www-form-urlencoded").
    init?(form bytes: [UInt8]) {
        let pairs = String(decoding: bytes, as: UTF8.self).split(separator: "&")
        self = .object(
            pairs.compactMap { pair in
                let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map { part in
                    part.replacing("+", with: " ").removingPercentEncoding
                }
                guard let name = parts[0] else { return nil }
                return Member(name, .string(parts.count == 2 ? parts[1] ?? "" : ""))
            })
    }

    /// Texts without white space around them, and null where nothing is left, as Laravel hands input on; passwords stay as they
    /// are.
    var asLaravelInput: JSON {
        .object((members ?? []).map { Member($0.key, $0.key.contains("password") ? $0.value : $0.value.trimmed) })
    }

    private var trimmed: JSON {
        switch self {
        case .string(let text):
            let inner = text.trimmingCharacters(in: .whitespacesAndNewlines)
            return inner.isEmpty ? .null : .string(inner)
        case .array(let elements): return .array(elements.map(\.trimmed))
        default: return self
        }
    }
}
