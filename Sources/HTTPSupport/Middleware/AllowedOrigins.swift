package import Bootstrap
internal import HTTPTypes

/// The origins whose pages may read answers (fetch.spec.whatwg.org, "CORS protocol").
package enum AllowedOrigins: Sendable, Hashable {
    /// Every one, as Laravel has it: tokens are not sent by a browser on its own.
    case any
    case these(Set<String>)

    /// `<prefix>_CORS_ORIGINS`: `*`, or origins such as `https://app.example`, separated by commas.
    package init(reading settings: SettingsReader, prefix: String) {
        let form = "* or a list of origins such as https://app.example"
        self = settings.parsed("\(prefix)_CORS_ORIGINS", as: form, default: .any, shownAs: "*") { text in
            guard text != "*" else { return .any }
            let origins = text.split { $0 == "," || $0.isWhitespace }.map(String.init)
            let areOrigins = origins.allSatisfy { $0.wholeMatch(of: /https?:\/\/[A-Za-z0-9.\-\[\]:]+/) != nil }
            return areOrigins && !origins.isEmpty ? .these(Set(origins)) : nil
        }
    }

    /// Says in `headers` whether a page of `origin` may read the answer.
    func add(to headers: inout HTTPFields, for origin: String?) {
        guard case .these(let origins) = self else {
            headers[.accessControlAllowOrigin] = "*"
            return
        }
        headers[.vary] = [headers[.vary], "Origin"].compactMap(\.self).joined(separator: ", ")
        if let origin, origins.contains(origin) { headers[.accessControlAllowOrigin] = origin }
    }
}
